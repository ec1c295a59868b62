"""The scaler: sizes the API's Deployment by what the proxies see. Only its command line is here so far.

One round, as planned: scrape every proxy -> window -> forecast and calendar -> decide -> patch the Deployment's scale.
"""
