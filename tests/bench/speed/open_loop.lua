-- Asks at a constant mean rate, whether or not answers come: latencies count from when a request was due.
-- Run by wrk for its LuaJIT, of whose `init` nothing returns: wrk itself sends nothing.
-- wrk -s open_loop.lua URL -- TEMPLATE PORT RATE SECONDS CONNECTIONS END_OF_BODY
local ffi = require("ffi")

ffi.cdef((ffi.arch == "x64" and "typedef struct __attribute__((packed)) {" or "typedef struct {") .. [[
    uint32_t events; uint64_t data; } bench_event;
typedef struct { long seconds; long nanoseconds; } bench_time;
typedef struct { uint16_t family; uint16_t port; uint32_t address; uint8_t zero[8]; } bench_address;
int socket(int, int, int);
int connect(int, const bench_address *, uint32_t);
int setsockopt(int, int, int, const void *, uint32_t);
int epoll_create1(int);
int epoll_ctl(int, int, int, bench_event *);
int epoll_wait(int, bench_event *, int, int);
long send(int, const void *, size_t, int);
long recv(int, void *, size_t, int);
int clock_gettime(int, bench_time *);
]])
local C = ffi.C
local MSG_DONTWAIT, MSG_NOSIGNAL, EPOLLIN = 0x40, 0x4000, 1
local LONGEST_US = 1000000

local clock = ffi.new("bench_time")
local function now_us()
    C.clock_gettime(1, clock)
    return tonumber(clock.seconds) * 1e6 + tonumber(clock.nanoseconds) / 1e3
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local found = file:read("*a")
    file:close()
    return found
end

local function connected(port)
    local fd = C.socket(2, 1, 0)
    local to = ffi.new("bench_address")
    to.family = 2
    to.port = bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
    ffi.copy(ffi.cast("uint8_t *", to) + 4, "\127\0\0\1", 4)
    assert(C.connect(fd, to, 16) == 0, "cannot connect")
    local on = ffi.new("int[1]", 1)
    assert(C.setsockopt(fd, 6, 1, on, 4) == 0)
    return fd
end

local function percentile(histogram, count, share)
    local wanted, seen = count * share, 0
    for us = 0, LONGEST_US do
        seen = seen + histogram[us]
        if seen >= wanted then return us end
    end
    return LONGEST_US
end

local function run(template, port, rate, seconds, connections, tail)
    local poll = C.epoll_create1(0)
    local event = ffi.new("bench_event")
    local events = ffi.new("bench_event[?]", connections)
    local fds = ffi.new("int[?]", connections)
    local due_of, got = ffi.new("double[?]", connections), ffi.new("int[?]", connections)
    local free, free_count = ffi.new("int[?]", connections), connections
    for number = 0, connections - 1 do
        fds[number] = connected(port)
        event.events, event.data = EPOLLIN, number
        assert(C.epoll_ctl(poll, 1, fds[number], event) == 0)
        free[number] = number
    end
    local buffer = ffi.new("uint8_t[65536]")
    local ok = ffi.cast("const uint8_t *", "HTTP/1.1 200")
    local ending, ending_bytes = ffi.cast("const uint8_t *", tail), #tail
    local latencies = ffi.new("uint32_t[?]", LONGEST_US + 1)
    local lateness = ffi.new("uint32_t[?]", LONGEST_US + 1)
    local sent, answered, bad, longest = 0, 0, 0, 0
    local freed_at = 0

    local function send_due(due, now)
        free_count = free_count - 1
        local number = free[free_count]
        due_of[number], got[number] = due, 0
        -- Where no connection was free, the wait was not ours.
        local late = math.min(now - math.max(due, freed_at), LONGEST_US)
        lateness[late] = lateness[late] + 1
        if C.send(fds[number], template, #template, MSG_DONTWAIT + MSG_NOSIGNAL) ~= #template then bad = bad + 1 end
        sent = sent + 1
    end

    local function whole(size)
        for at = 1, ending_bytes do
            if buffer[size - at] ~= ending[ending_bytes - at] then return false end
        end
        return true
    end

    local function take(number)
        local size = tonumber(C.recv(fds[number], buffer, 65536, MSG_DONTWAIT))
        if size <= 0 then error("the server closed a connection") end
        if got[number] == 0 then
            for at = 0, 11 do
                if buffer[at] ~= ok[at] then bad = bad + 1 break end
            end
        end
        got[number] = got[number] + size
        if size < ending_bytes or not whole(size) then return end
        local now = now_us()
        local took = now - due_of[number]
        latencies[math.min(took, LONGEST_US)] = latencies[math.min(took, LONGEST_US)] + 1
        if took > longest then longest = took end
        answered = answered + 1
        if free_count == 0 then freed_at = now end
        free[free_count] = number
        free_count = free_count + 1
    end

    local began = now_us()
    local until_us = began + seconds * 1e6
    local mean = 1e6 / rate
    local due = began
    while true do
        local now = now_us()
        -- Where all connections wait for their answers, what is due waits too, and its latency counts the wait.
        while due <= now and due < until_us and free_count > 0 do
            send_due(due, now)
            -- A crowd's requests come independently of one another: exponential gaps.
            due = due - mean * math.log(1 - math.random())
            now = now_us()
        end
        if due >= until_us and free_count == connections then break end
        if now > until_us + 5e6 then break end
        local ready = C.epoll_wait(poll, events, connections, 0)
        for number = 0, ready - 1 do take(tonumber(events[number].data)) end
    end
    io.write(string.format(
        '{"sent": %d, "answered": %d, "bad": %d, "seconds": %.3f, "p50_us": %d, "p99_us": %d, "p999_us": %d, '
            .. '"max_us": %d, "late_p50_us": %d, "late_p99_us": %d}\n',
        sent, answered, bad, (now_us() - began) / 1e6, percentile(latencies, answered, 0.5),
        percentile(latencies, answered, 0.99), percentile(latencies, answered, 0.999), longest,
        percentile(lateness, sent, 0.5), percentile(lateness, sent, 0.99)))
end

function init(args)
    math.randomseed(1)
    run(read(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5]), args[6])
    os.exit(0)
end
