-- For wrk: sends requests made from a template, and prints the figures as one line of JSON.
-- wrk -s wrk.lua URL -- TEMPLATE [DRAWS]
-- In the template a byte 1 stands for a random hexadecimal digit, five bytes 2 for the number of a key; DRAWS are these
-- numbers, 32 bits each, in the order in which they are asked for.
local ffi = require("ffi")
local bit = require("bit")

local text, bytes, draws
local pairs_at, pairs_count = nil, 0
local key_at, draw, draws_count = nil, 0, 0

local digits = ffi.new("uint8_t[512]")
for byte = 0, 255 do
    local two = string.format("%02x", byte)
    digits[2 * byte], digits[2 * byte + 1] = two:byte(1, 2)
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local found = file:read("*a")
    file:close()
    return found
end

function init(args)
    text = read(args[1])
    -- A string of Lua's is not meant to be written to. Nobody looks this one up, and a new string for each request
    -- would make wrk what is measured.
    bytes = ffi.cast("uint8_t *", text)
    local found, at = {}, 0
    while at < #text do
        if bytes[at] == 1 then
            found[#found + 1] = at
            at = at + 1
        elseif bytes[at] == 2 and key_at == nil then
            key_at = at
        end
        at = at + 1
    end
    pairs_count = #found
    pairs_at = ffi.new("int32_t[?]", math.max(pairs_count, 1), found)
    if args[2] then
        local all = read(args[2])
        draws_count = #all / 4
        draws = ffi.new("uint32_t[?]", draws_count)
        ffi.copy(draws, all, #all)
    end
end

-- xorshift: not random enough for secrets, and different in every request.
local state = bit.tobit(os.time() * 2654435 + 88172645)
local function next_word()
    state = bit.bxor(state, bit.lshift(state, 13))
    state = bit.bxor(state, bit.rshift(state, 17))
    state = bit.bxor(state, bit.lshift(state, 5))
    return state
end

local function make_new()
    local word = 0
    for number = 0, pairs_count - 1 do
        if bit.band(number, 3) == 0 then word = next_word() end
        local two = 2 * bit.band(word, 255)
        local at = pairs_at[number]
        bytes[at], bytes[at + 1] = digits[two], digits[two + 1]
        word = bit.rshift(word, 8)
    end
end

local function make_key()
    local key = draws[draw]
    draw = draw + 1
    if draw == draws_count then draw = 0 end
    for place = 4, 0, -1 do
        local digit = key % 10
        bytes[key_at + place] = 48 + digit
        key = (key - digit) / 10
    end
end

function request()
    if pairs_count > 0 then make_new() end
    if draws_count > 0 then make_key() end
    return text
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, '
            .. '"bad_statuses": %d, "socket_errors": %d, "timeouts": %d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
        errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
