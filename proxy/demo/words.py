"""The words that the sample's names and titles are made of."""

# ruff: noqa: SIM905 - a line of words reads better than a column of quoted ones

FIRST_NAMES = (
    "Ada Amara Amir Anneli Ayşe Björn Carmen Chidi Chloé Dagny Diego Elif Emeka Farah Femi Giulia Grace Hana Haruto "
    "Ines Ivan Jamal Jiho João Kofi Lena Łukasz Maja Malik Mei Nadia Noor Olga Omar Priya Rafael Rosa Sanna Tariq Zoë"
).split()

LAST_NAMES = (
    "Adeyemi Andersen Bauer Becker Castillo Chen Costa Dubois Eriksen Fernández Fischer García Haddad Hansen Horvat "
    "Ibrahim Jensen Kaya Kim Kowalski Lindqvist Lovelace Mendes Moreau Müller Ndiaye Nguyen Novák O’Brien Okafor "
    "Papadopoulos Petrov Rossi Sato Schneider Silva Singh Suzuki Tanaka Weber"
).split()

CITIES = {
    "Amsterdam": "NL",
    "Athens": "GR",
    "Barcelona": "ES",
    "Berlin": "DE",
    "Copenhagen": "DK",
    "Dublin": "IE",
    "Helsinki": "FI",
    "Kraków": "PL",
    "Lisbon": "PT",
    "Lyon": "FR",
    "Milan": "IT",
    "Oslo": "NO",
    "Porto": "PT",
    "Prague": "CZ",
    "Stockholm": "SE",
    "Vienna": "AT",
}

# Where participants come from, the most first.
COUNTRIES = "DE FR IT ES PL NL SE AT PT GR CZ DK FI NO IE JP NG BR IN KR".split()

PLACES = "Arena Hall Theatre Gardens Forum Pavilion Stadium Club Museum Wharf".split()

EVENT_TYPES = {
    "concert": "Concert",
    "conference": "Conference",
    "workshop": "Workshop",
    "festival": "Festival",
    "exhibition": "Exhibition",
    "sports": "Sports",
    "theatre": "Theatre",
    "comedy": "Comedy",
    "meetup": "Meetup",
    "lecture": "Lecture",
    "film": "Film",
    "food": "Food and drink",
}

MOODS = "Midnight Open Northern Electric Quiet Golden Summer Hidden Grand Second Wild Modern Last First Blue".split()

SUBJECTS = (
    "Strings Data Gardens Cities Rivers Machines Voices Letters Rhythms Oceans Kitchens Stars Bridges".split()
)

SENTENCES = (
    "Doors open an hour before the start.",
    "Seats are free and taken in the order of arrival.",
    "The programme is in English, with interpreters on request.",
    "Children under twelve come in for free.",
    "Please bring the ticket on your phone or on paper.",
    "Food and drink are sold in the foyer.",
    "The venue is step-free and has an induction loop.",
    "An after-party follows in the bar upstairs.",
    "Photography is welcome, flashes are not.",
    "The last tram leaves half an hour after the end.",
)
