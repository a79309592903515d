-- Watches the answers of engines inside Envoy, so that no token costs a message to the ext_proc process.
--
-- Stands before ext_proc in the filter chain, hence after it on the way back. Of answers that ext_proc placed (it left
-- dynamic metadata in `aibrix.extproc`) it reads the usage, writes into `aibrix.usage` how a stream ended, hides
-- the usage event that only the gateway asked for, and says errors inside of streams in the words of the API. A stream
-- that ends in proper framing but without its last event gets an error event: it must not look like a short success.
-- All else passes byte by byte. An event is buffered until it is whole, which no client notices: it has no use
-- for half of one. A stream that Envoy resets ends without us, and clients see a broken connection.
--
-- What cannot be had here: a first event that is an error does not become a 4xx or 5xx answer. Lua gets a chunk only
-- when the response's head is on its way to the client, or else the whole body at once; between them is nothing.
--
-- Lua 5.1 without `return` at the end and without metatables: Envoy Gateway runs the code in its own sandbox before it
-- accepts it, with the call of the entry point written behind the last line.

local byte, find, gmatch, gsub = string.byte, string.find, string.gmatch, string.gsub
local format, lower, match, sub = string.format, string.lower, string.match, string.sub
local concat = table.concat

local MAX_EVENT = 65536 -- an event that is larger passes unread but for its beginning, its end and its usage
local TAIL = 4096 -- bytes of a large event's end
local MAX_USAGE = 4096 -- bytes of a usage object; engines write some hundred
local MAX_WORK = 16777216 -- bytes of one answer that are read for its usage one by one
local NAMESPACE, REPORT = "aibrix.extproc", "aibrix.usage"
local BOM = "\239\187\191"

-- ---------------------------------------------------------------------------------------------------------- JSON
-- Positions in a text, nothing is built. A text that is not JSON gives nil.

-- The quote that ends a string whose text begins at `from`. Looks for quotes only, which is many times faster than a
-- pattern; backslashes are counted where one stands before a quote.
local function closing_quote(text, from)
  local pos = from
  while true do
    local quote = find(text, '"', pos, true)
    if not quote then return nil end
    local at = quote - 1
    while at >= pos and byte(text, at) == 92 do at = at - 1 end
    if (quote - at) % 2 == 1 then return quote end
    pos = quote + 1
  end
end

local function value_end(text, at)
  local first = byte(text, at)
  if first == 34 then return closing_quote(text, at + 1) end
  if first ~= 123 and first ~= 91 then
    local stop = match(text, "^[%w.+-]+()", at)
    return stop and stop - 1
  end
  local depth, pos = 0, at
  while true do
    pos = find(text, '["%[%]{}]', pos)
    if not pos then return nil end
    local char = byte(text, pos)
    if char == 34 then
      pos = closing_quote(text, pos + 1)
      if not pos then return nil end
    elseif char == 123 or char == 91 then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return pos end
    end
    pos = pos + 1
  end
end

-- The members of an object: key -> the value's text. Keys with escapes end the reading; no engine has such.
local function members(text)
  local pos = match(text or "", "^%s*{()")
  if not pos then return nil end
  local found = {}
  while true do
    local key, start = match(text, '^[%s,]*"([^"\\]*)"%s*:%s*()', pos)
    if not key then
      return match(text, "^%s*}%s*$", pos) and found or nil
    end
    local stop = value_end(text, start)
    if not stop then return nil end
    found[key] = sub(text, start, stop)
    pos = stop + 1
  end
end

-- What stands between the quotes of a JSON string, its escapes kept; nil for any other value.
local function quoted(value)
  return value and match(value, '^"(.*)"$')
end

local function is_set(value)
  return value ~= nil and value ~= "null" and value ~= "false" and value ~= '""'
end

-- ---------------------------------------------------------------------------------------------------------- usage

-- The whole numbers of a usage object, the first of each name. Of the objects inside only `cached_tokens` counts: others
-- may repeat a name with another meaning.
local function counts_in(text)
  local found = { cached_tokens = tonumber(match(text, '"cached_tokens"%s*:%s*(%d+)%f[%s,}]')) }
  for name, digits in gmatch((gsub(sub(text, 2), "%b{}", "")), '"([%a_]+)"%s*:%s*(%d+)%f[%s,}]') do
    if not found[name] and #digits < 16 then found[name] = tonumber(digits) end
  end
  return found
end

-- The counts of a usage object by the names of our report; nil if it has none. Audio may be in seconds.
local function usage_of(text)
  if #text > MAX_USAGE then return nil end
  local counts = counts_in(text)
  local input, output = counts.prompt_tokens, counts.completion_tokens or counts.output_tokens
  local total, read = counts.total_tokens, counts.cache_read_input_tokens
  if not input then
    input = counts.input_tokens
    -- Anthropic counts what the cache gave or took apart.
    if input then input = input + (read or 0) + (counts.cache_creation_input_tokens or 0) end
  end
  if not (input or output or total) then
    local seconds = match(text, '"seconds"%s*:%s*(%d+%.?%d*)%f[%s,}]')
    return seconds and #seconds < 16 and { audio_seconds = tonumber(seconds) } or nil
  end
  output = output or 0
  input = input or (total and total > output and total - output or 0) -- older rerankers report the sum alone
  return {
    input_tokens = input, output_tokens = output, total_tokens = total or input + output,
    cached_tokens = counts.cached_tokens or read,
    reasoning_tokens = find(text, '"reasoning_tokens"', 1, true)
      and tonumber(match(text, '"reasoning_tokens"%s*:%s*([1-9]%d*)%f[%s,}]')) or nil,
  }
end

-- The meter finds the outermost usage object of a JSON text that comes in pieces, wherever it stands, in one pass and
-- in little memory. The model's own words cannot pass for it: inside of a string the quotes of a key have backslashes
-- before them, and in an object (a tool's arguments, a schema that is repeated) it stands deeper.
--
-- Up to the first such key there is only a plain search. Behind it brackets are counted, relative to that key: the text
-- ends at depth nought, which gives the depth of each key.
local function new_meter()
  return {
    rest = "", -- the end of what was read, which the next piece may complete
    depth = nil, -- now, relative to the first key; nil before it
    level = nil, found = nil, -- the depth of the outermost key so far, and its usage
    in_string = false, escaped = false,
    work = 0, -- bytes that were read one by one
  }
end

-- Remembers that `text` breaks off at `stop` inside of a string that goes on since `from`.
local function break_string(meter, text, from, stop)
  local at = stop - 1
  while at >= from and byte(text, at) == 92 do at = at - 1 end
  meter.in_string, meter.escaped = true, (stop - 1 - at) % 2 == 1
end

-- Counts the brackets from `pos` to before `stop`.
local function walk(meter, text, pos, stop)
  if pos >= stop then return end
  meter.work = meter.work + stop - pos
  if meter.in_string then
    local from = meter.escaped and pos + 1 or pos
    local quote = closing_quote(text, from)
    if not quote or quote >= stop then return break_string(meter, text, from, stop) end
    meter.in_string, pos = false, quote + 1
  end
  local depth = meter.depth
  while true do
    pos = find(text, '["%[%]{}]', pos)
    if not pos or pos >= stop then break end
    local char = byte(text, pos)
    if char == 34 then
      local quote = closing_quote(text, pos + 1)
      if not quote or quote >= stop then
        break_string(meter, text, pos + 1, stop)
        break
      end
      pos = quote
    else
      depth = depth + ((char == 123 or char == 91) and 1 or -1)
    end
    pos = pos + 1
  end
  meter.depth = depth
end

-- The object behind a key that ends before `from`: where it begins and ends. The end is nil if it is not complete, both
-- are if there is no object.
local function object_behind(text, from)
  local colon, brace = match(text, "^%s*():?%s*()", from)
  if brace > #text then return brace, nil end
  if byte(text, colon) ~= 58 or byte(text, brace) ~= 123 then return nil, nil end
  return brace, value_end(sub(text, brace, brace + MAX_USAGE), 1)
end

-- Takes the next piece of the text.
local function measure(meter, bytes)
  if meter.work > MAX_WORK then return end
  local text, pos, seen = bytes, 1, 1
  if meter.rest ~= "" then text = meter.rest .. bytes end
  while true do
    local key, key_end = find(text, '"usage"', seen, true)
    if not key then break end
    seen = key_end + 1
    local brace, length = object_behind(text, seen)
    if brace then
      local is_key
      if meter.depth then
        walk(meter, text, pos, key)
        pos, is_key = key, not meter.in_string
      else -- what stands before a key never stands before a quote inside of a string: that is a backslash
        is_key = match(text, "^[%s{,]", key - 1)
      end
      if is_key and not length and #text - key < MAX_USAGE then
        meter.rest = sub(text, meter.depth and key or key - 1)
        return
      elseif is_key and length then
        local level = meter.depth or 0
        if not meter.level or level <= meter.level then
          meter.level, meter.found = level, usage_of(sub(text, brace, brace + length - 1))
        end
        meter.depth, pos = level, brace + length
        seen = pos
      elseif is_key then
        meter.work = meter.work + 8 * MAX_USAGE -- a search for an end that was not there
        if meter.work > MAX_WORK then return end
      end
    end
  end
  local stop = #text + 1 - #match(sub(text, -6), '"?u?s?a?g?e?$') -- perhaps the beginning of a key
  if stop < pos then stop = pos end
  if meter.depth then
    walk(meter, text, pos, stop)
    meter.rest = sub(text, stop)
  else
    meter.rest = sub(text, stop > 1 and stop - 1 or 1)
  end
end

-- Whether a pattern (or a plain text) is found at this depth of a JSON text, outside of strings.
local function stands_at(text, wanted, pattern, is_plain)
  local meter, pos, seen = { depth = 0, in_string = false, escaped = false, work = 0 }, 1, 1
  while true do
    local key, stop = find(text, pattern, seen, is_plain)
    if not key then return false end
    walk(meter, text, pos, key)
    if meter.depth == wanted and not meter.in_string then return true end
    pos, seen = key, stop + 1
  end
end

-- Whether a choice was broken off; its members stand at this depth, a tool's deeper. The pattern is tried at every byte,
-- which costs 5 us a KB; the plain search in front of it costs next to nothing.
local function is_aborted(text, depth)
  return find(text, '"abort"', 1, true) and stands_at(text, depth, '"finish_reason"%s*:%s*"abort"', false)
end

-- The usage of the outermost usage object, once the text is over; else nil, and why. One that stands deeper than
-- `deepest` is none of the answer's own.
local function measured(meter, deepest)
  if meter.work > MAX_WORK then return nil, "too_large" end
  if not meter.level then return nil, "no_usage" end
  walk(meter, meter.rest, 1, #meter.rest + 1)
  local depth = meter.level - meter.depth
  if meter.in_string or depth < 1 or depth > deepest then return nil, "no_usage" end
  return meter.found, "no_usage"
end

-- Counts only grow, and Anthropic's come in two halves. Engines that count in every chunk are reported now and then.
local function take(state, found)
  if not found then return end
  local report = state.report
  for name, value in pairs(found) do
    if value > (report[name] or -1) then report[name] = value end
  end
  local sum = (report.input_tokens or 0) + (report.output_tokens or 0)
  if report.total_tokens and sum > report.total_tokens then report.total_tokens = sum end
  if state.counts % 16 == 0 then state.news = true end
  state.counts = state.counts + 1
end

local function take_usage(state, text)
  if is_set(text) then take(state, usage_of(text)) end
end

-- --------------------------------------------------------------------------------------------------------- errors

-- Messages for clients, by status; the texts are those of the gateway's table of errors.
local SERVER_ERROR = {
  "server_error", "upstream_error", "The server had an error while processing your request. Sorry about that!",
  "api_error",
}
local OVERLOADED = {
  "server_error", "overloaded",
  "That model is currently overloaded with other requests. Please retry your request shortly.", "overloaded_error",
}
local TIMEOUT = { "server_error", "timeout", "Request timed out.", "timeout_error" }
local BY_STATUS = {
  [401] = SERVER_ERROR, [407] = SERVER_ERROR, [408] = TIMEOUT, [503] = OVERLOADED, [504] = TIMEOUT, [529] = OVERLOADED,
}
local REFUSED = "The engine refused the request."
-- Names of errors without a status. Everything else is the engine's failure.
local STATUS_OF = {
  BadRequestError = 400, invalid_request_error = 400, ValueError = 400, VLLMValidationError = 400,
  NotFoundError = 404, RateLimitError = 429, rate_limit_error = 429, rate_limit_exceeded = 429,
  ServiceUnavailableError = 503, overloaded_error = 503,
}
-- Words about the inside of the engine, not about the request.
local INTERNAL = {
  "\\n", "Traceback", "pydantic", "validation error", "EngineCore", "CUDA", "torch", "vllm", "VLLM_", "Error:",
  "%-%-%l", "%S/%S+/%S", "%s/%S", "://", "%d+%.%d+%.%d+%.%d+", "0x%x",
}

local function for_client(message)
  local about = message and find(message, "(parameter=", 1, true)
  if about then message = match(sub(message, 1, about - 1), "^.*%S") end
  if not message or message == "" or #message > 512 then return REFUSED end
  for i = 1, #INTERNAL do
    if find(message, INTERNAL[i]) then return REFUSED end
  end
  return message
end

-- Type, code (nil for null) and message for an error object of whatever shape; the fourth is Anthropic's type.
local function problem(fields)
  local status = tonumber(match(fields.code or "", '^"?(%d%d%d)"?$'))
    or STATUS_OF[quoted(fields.type)] or STATUS_OF[quoted(fields.code)] or 500
  if status < 400 or status >= 500 or BY_STATUS[status] then return BY_STATUS[status] or SERVER_ERROR end
  local message = for_client(quoted(fields.message))
  if status == 429 then return { "requests", "rate_limit_exceeded", message, "rate_limit_error" } end
  local code = match(quoted(fields.code) or "", "^%l[%l_]*$")
  if find(message, "maximum context length", 1, true) then code = "context_length_exceeded" end
  return { "invalid_request_error", code, message, "invalid_request_error" }
end

local function json(text)
  return text and '"' .. text .. '"' or "null"
end

local function last_sequence(state)
  return tonumber(match(state.last or "", '^.*"sequence_number"%s*:%s*(%d+)')) or -1
end

-- The error as an event of this stream's API. In the Responses API SDKs raise because of the envelope beside the typed
-- fields.
local function error_event(state, what, param)
  local kind, code, message, anthropic = what[1], what[2], what[3], what[4]
  state.report.error = code or kind
  state.news = true
  if state.kind == "anthropic" then
    local inner = '{"type":"' .. anthropic .. '","message":' .. json(message) .. "}"
    return 'event: error\ndata: {"type":"error","error":' .. inner .. "}\n\n"
  end
  local rest = '"message":' .. json(message) .. ',"param":' .. json(param) .. ',"code":' .. json(code)
  local envelope = '"error":{"type":"' .. kind .. '",' .. rest .. "}"
  if state.kind ~= "typed" then return "data: {" .. envelope .. "}\n\n" end
  local number = last_sequence(state) + 1
  state.last = '"sequence_number":' .. number
  return 'event: error\ndata: {"type":"error","sequence_number":' .. number .. "," .. rest .. "," .. envelope .. "}\n\n"
end

-- The error in the members of an event, in any shape an engine may choose; nil if there is none.
local function error_in(top)
  if is_set(top.error) then
    return members(top.error) or { message = top.error, code = top.code, type = top.type }
  end
  if top.choices or top.response then return nil end
  if is_set(top.detail) then return { message = top.detail, code = top.code, type = top.type } end
  if top.object == '"error"' or (is_set(top.message) and quoted(top.message)) then return top end
  return nil
end

local function reported_error(state, fields)
  local param = match(quoted(fields.param) or "", "^[%w_.%[%]-]+$")
  return error_event(state, problem(fields), param and (gsub(param, "^body%.", "")))
end

-- ------------------------------------------------------------------------------------------ events, by kind of stream
-- Each takes an event's text, name, data and members and gives what goes on in its place. `data: [DONE]` comes without
-- members.

local function ends(state)
  local report = state.report
  report.terminal = true
  report.events, report.event_bytes = nil, nil -- it did not break off
  state.news = true
end

-- An event without one of its members.
local function without(event, key, value)
  local quoted_value = gsub(value, "%p", "%%%0")
  local shorter, times = gsub(event, ',%s*"' .. key .. '"%s*:%s*' .. quoted_value, "", 1)
  if times == 1 then return shorter end
  return (gsub(event, '"' .. key .. '"%s*:%s*' .. quoted_value .. "%s*,?%s*", "", 1))
end

local function on_chunk(state, event, _, data, top)
  if data == "[DONE]" then
    ends(state)
    return event
  end
  if not top then return event end
  local fields = error_in(top)
  if fields then return reported_error(state, fields) end
  if top.choices and is_aborted(top.choices, 2) then
    return error_event(state, SERVER_ERROR) -- the engine was paused or put to sleep: no success, however short
  end
  if top.usage then
    take_usage(state, top.usage)
    local is_last = top.choices and find(top.choices, "^%[%s*%]$")
    state.news = state.news or is_last ~= nil
    if state.hide then return is_last and "" or without(event, "usage", top.usage) end
  end
  return event
end

local FINAL = { ["response.completed"] = true, ["response.incomplete"] = true, ["response.failed"] = true }

local function on_typed(state, event, name, _, top)
  if not top then return event end
  name = quoted(top.type) or name
  if not FINAL[name] then
    local fields = error_in(top)
    if name ~= "error" and not fields then return event end
    return reported_error(state, fields or top)
  end
  ends(state)
  local response = members(top.response) or {}
  take_usage(state, response.usage)
  if response.status == '"cancelled"' then state.report.error = "cancelled" end -- by the engine, put to sleep say
  if name == "response.failed" then
    local fields = members(response.error)
    local what = problem(fields or {})
    state.report.error = what[2] or what[1]
    if fields then
      local code = quoted(fields.code) and what[2] ~= "upstream_error" and what[2] or what[1]
      local said = '{"code":' .. json(code) .. ',"message":' .. json(what[3]) .. "}"
      local start, stop = find(event, response.error, 1, true)
      return sub(event, 1, start - 1) .. said .. sub(event, stop + 1)
    end
  end
  return event
end

local function on_message(state, event, name, _, top)
  if not top then return event end
  name = quoted(top.type) or name
  if name == "message_stop" then
    ends(state)
  elseif name == "message_start" then
    take_usage(state, (members(top.message) or {}).usage)
  elseif name == "message_delta" then
    take_usage(state, top.usage)
  else
    local fields = error_in(top)
    if fields or name == "error" then return reported_error(state, fields or {}) end
  end
  return event
end

-- vLLM transcribes in chunks of its own; clients of OpenAI wait for deltas and for the whole text at the end.
local function on_transcript(state, event, _, data, top)
  local text = state.text
  if data == "[DONE]" then
    ends(state)
    local report, usage = state.report, ""
    if report.error then return "" end -- the error was the last word
    if report.total_tokens then
      usage = ',"usage":{"type":"tokens","input_tokens":' .. report.input_tokens .. ',"output_tokens":'
        .. report.output_tokens .. ',"total_tokens":' .. report.total_tokens .. "}"
    end
    return 'data: {"type":"transcript.text.done","text":"' .. concat(text) .. '"' .. usage .. "}\n\n"
  end
  if not top then return event end
  local fields = error_in(top)
  if fields then return reported_error(state, fields) end
  take_usage(state, top.usage)
  if top.object ~= '"transcription.chunk"' and top.object ~= '"translation.chunk"' then return event end
  local start = match(top.choices or "", '"content"%s*:%s*()')
  local stop = start and value_end(top.choices, start)
  local content = stop and quoted(sub(top.choices, start, stop)) or ""
  if content == "" then return "" end
  text[#text + 1] = content -- its escapes kept: joined, the pieces are the escaped whole
  return 'data: {"type":"transcript.text.delta","delta":"' .. content .. '"}\n\n'
end

-- Kinds of streams: what nearly every event begins with and how many lines it has, what must not stand in such an event
-- if it is to pass unread (each needle begins with a letter that is rare in JSON: the search hops from one to the next),
-- who reads the others.
local CHUNKS = {
  width = 10, lines = 1, needles = { 'usage"', 'rror"', 'bort"' }, read = on_chunk,
  starts = { ['data: {"id'] = true },
}
local KINDS = {
  data_done = CHUNKS,
  transcript = { width = 10, lines = 1, needles = {}, read = on_transcript, starts = {} },
  typed = {
    width = 18, lines = 2, needles = {}, read = on_typed,
    starts = { ["event: response.ou"] = true, ["event: response.re"] = true, ["event: response.fu"] = true },
  },
  anthropic = { width = 14, lines = 2, starts = { ["event: content"] = true }, needles = {}, read = on_message },
}

-- ------------------------------------------------------------------------------------------------------- the stream

local function new(kind, hide, report)
  return {
    kind = kind, hide = hide, rule = KINDS[kind],
    pieces = {}, size = 0, edge = "", -- of the event that has not ended; its last byte
    spilt = nil, -- of one that grew too large: its beginning and its last bytes
    skip_lf = false, -- the rest of a CRLF behind an event that was taken out
    last = nil, -- text with the latest sequence number
    first = true,
    text = {}, -- of a transcript
    events = 0, bytes = 0, milestone = 2, -- of events that passed unread
    report = report or {}, news = false, counts = 0,
  }
end

local function is_plain(rule, text)
  for i = 1, #rule.needles do
    if find(text, rule.needles[i], 1, true) then return false end
  end
  return true
end

-- Where the event at `pos` ends if it has the lines that its rule expects; nil if it has others or is not whole.
local function usual_end(text, pos, lines)
  for _ = 1, lines do
    local stop = find(text, "\n", pos, true)
    if not stop then return nil end
    pos = stop + 1
  end
  return byte(text, pos) == 10 and pos
end

-- A stream that breaks off tells no usage. The number of its events is reported before that can happen, each time that it
-- has grown fourfold, with the bytes that they have: the access log knows the bytes of the whole.
local function count_events(state, events, bytes)
  local report = state.report
  state.events, state.bytes = state.events + events, state.bytes + bytes
  if state.events >= state.milestone then
    report.events, report.event_bytes = state.events, state.bytes
    state.milestone, state.news = 4 * state.events, true
  end
end

-- Whether a chunk is made of whole events that all pass unread. Most are, so this is what a token costs.
local function passes(state, bytes)
  local rule, pos, size, events = state.rule, 1, #bytes, 0
  local starts, width, lines = rule.starts, rule.width - 1, rule.lines
  while pos <= size do
    if not starts[sub(bytes, pos, pos + width)] then return false end
    local stop = usual_end(bytes, pos, lines)
    if not stop then return false end
    pos, events = stop + 1, events + 1
  end
  if not is_plain(rule, bytes) then return false end
  count_events(state, events, size)
  return true
end

-- The last byte of the event at `from`, nil if it has not ended. Before `seen` there is no end.
local function event_end(text, from, seen, has_cr)
  local pos = from > seen and from or seen
  if not has_cr then
    local _, stop = find(text, "\n\n", pos, true)
    return stop
  end
  while true do
    pos = find(text, "[\r\n]", pos)
    if not pos then return nil end
    local behind = pos + (sub(text, pos, pos + 1) == "\r\n" and 2 or 1)
    local char = byte(text, behind)
    if char == 10 then return behind end
    if char == 13 then return behind + (byte(text, behind + 1) == 10 and 1 or 0) end
    pos = behind
  end
end

-- An event's name and data, and the event without the lines that are neither of these nor a comment. Data is nil if it
-- has no line of that name.
local function parse(event)
  local name, data, kept, is_odd = "", {}, {}, false
  for line, newline in gmatch(event, "([^\r\n]*)(\r?\n?)") do
    local field, value = match(line, "^([^:]*):? ?(.*)$")
    if field == "data" then
      data[#data + 1] = value
    elseif field == "event" then
      name = value
    end
    if field == "data" or field == "event" or field == "" then
      kept[#kept + 1] = line .. newline
    else
      is_odd = true -- `id:` and `retry:` make some SDKs fail, and unknown fields are skipped by all
    end
  end
  return name, data[1] and concat(data, "\n"), is_odd and concat(kept) or event
end

local function is_comment(event)
  return not find("\n" .. event, "[\r\n][^:\r\n]")
end

-- What goes on in place of a whole event.
local function handle(state, event)
  if state.first then
    state.first = false
    if sub(event, 1, 3) == BOM then event = sub(event, 4) end -- SDKs lose the first event behind it
  end
  local rule = state.rule
  if rule.starts[sub(event, 1, rule.width)] and usual_end(event, 1, rule.lines) == #event and is_plain(rule, event) then
    state.last = event
    count_events(state, 1, #event)
    return event
  end
  if is_comment(event) then return event end
  local name, data, clean = parse(event)
  if not data or not find(data, "%S") then return "" end -- `retry:` or `event: ping` alone: no SDK can read it
  local passed = rule.read(state, clean, name, data, members(data))
  if passed == event then state.last = event end
  return passed
end

-- The name of an event that was too large to be buffered: of its line, or of its data's first or last members.
local NAMES = {
  { "head", "^event: ?([^\r\n]+)" },
  { "head", '^data: ?{%s*"type"%s*:%s*"([%w._]+)"' },
  { "head", '^data: ?{%s*"sequence_number"%s*:%s*%d+%s*,%s*"type"%s*:%s*"([%w._]+)"' },
  { "tail", '}%s*,%s*"type"%s*:%s*"([%w._]+)"%s*}%s*$' },
  { "tail", '}%s*,%s*"type"%s*:%s*"([%w._]+)"%s*,%s*"sequence_number"%s*:%s*%d+%s*}%s*$' },
  { "tail", '}%s*,%s*"sequence_number"%s*:%s*%d+%s*,%s*"type"%s*:%s*"([%w._]+)"%s*}%s*$' },
}

-- The beginning of a large event that has an error: it is no part of an answer, so it need not go on as it is.
local LARGE_ERRORS = { "^event: ?error%f[%s]", '^data: ?{%s*"error"%s*:%s*[{"]', '^data: ?{%s*"type"%s*:%s*"error"' }

local function is_large_error(head)
  for i = 1, #LARGE_ERRORS do
    if find(head, LARGE_ERRORS[i]) then return true end
  end
  return false
end

-- Looks at the bytes of a large event behind `from` for the reason of a choice that was broken off. The model's words
-- cannot pass for it: their quotes have backslashes.
local function look_for_abort(spilt, text, from)
  local at, stop = from > 8 and from - 8 or 0, nil
  while not spilt.aborted do
    at, stop = find(text, '"abort"', at + 1, true)
    if not at then return end
    spilt.aborted = find(sub(text, at > 64 and at - 64 or 1, stop), '"finish_reason"%s*:%s*"abort"$') ~= nil
  end
end

-- Ends the event; gives what is to be sent behind it.
local function end_spilt(state)
  local spilt = state.spilt
  state.spilt = nil
  take(state, (measured(spilt.meter, 2))) -- in the Responses API inside of the response
  if spilt.is_error or (state.rule == CHUNKS and spilt.aborted) then return error_event(state, SERVER_ERROR) end
  if state.kind ~= "typed" then return "" end
  for i = 1, #NAMES do
    local name = match(spilt[NAMES[i][1]], NAMES[i][2])
    if name then
      if FINAL[name] then ends(state) end
      break
    end
  end
  return ""
end

-- Takes what belongs to an event that is too large; gives what goes on of it, and the position behind it.
local function spill(state, text, from)
  local spilt = state.spilt
  local window = spilt.tail .. sub(text, from)
  local offset = #window - (#text - from + 1)
  local stop = event_end(window, 1, offset > 3 and offset - 2 or 1, find(window, "\r", 1, true))
  local last = stop or #window
  measure(spilt.meter, sub(window, offset + 1, last))
  look_for_abort(spilt, window, offset)
  spilt.tail = sub(window, last > TAIL and last - TAIL + 1 or 1, last)
  local behind = stop and from + stop - offset or #text + 1
  local passed = spilt.is_error and "" or sub(text, from, behind - 1)
  return stop and passed .. end_spilt(state) or passed, behind
end

-- Whether an event may end there: CRLF alone is no end.
local function has_end(text)
  return find(text, "\n\n", 1, true) or find(text, "\r\r", 1, true) or find(text, "\n\r", 1, true)
end

-- Takes the next bytes; gives what goes on in their place, nil if that is the same.
local function feed(state, bytes)
  if bytes == "" then return nil end
  local is_between = not state.spilt and not state.skip_lf
  if is_between and state.size == 0 then
    if passes(state, bytes) then
      state.last, state.first = bytes, false
      return nil
    end
  elseif is_between and state.size + #bytes <= MAX_EVENT and not has_end(state.edge .. bytes) then
    state.pieces[#state.pieces + 1] = bytes
    state.size, state.edge = state.size + #bytes, sub(bytes, -1)
    return ""
  end
  local text, out, pos, seen = concat(state.pieces) .. bytes, {}, 1, state.size - 2
  local has_cr = find(text, "\r", 1, true)
  if state.skip_lf then
    pos = byte(text) == 10 and 2 or 1
    state.skip_lf = false
  end
  if state.spilt then
    out[1], pos = spill(state, text, pos)
  end
  while pos <= #text do
    local blank = match(text, "^[\r\n]+", pos) -- behind the end of an event: no event of its own
    if blank then
      out[#out + 1] = blank
      pos = pos + #blank
    else
      local stop = event_end(text, pos, seen, has_cr)
      if not stop then break end
      local event = sub(text, pos, stop)
      local passed = handle(state, event)
      out[#out + 1] = passed
      state.skip_lf = stop == #text and byte(text, stop) == 13 and byte(passed, -1) ~= 13
      pos = stop + 1
    end
  end
  local rest = sub(text, pos)
  if #rest > MAX_EVENT then
    local head = sub(rest, 1, 256)
    state.spilt = { head = head, tail = sub(rest, -TAIL), meter = new_meter(), is_error = is_large_error(head) }
    measure(state.spilt.meter, rest)
    look_for_abort(state.spilt, rest, 0)
    out[#out + 1] = state.spilt.is_error and "" or rest
    rest = ""
  end
  state.pieces, state.size, state.edge = { rest ~= "" and rest or nil }, #rest, sub(rest, -1)
  local passed = concat(out)
  return passed ~= bytes and passed or nil
end

-- What is to be sent behind the last bytes of a stream that ended in proper framing.
local function finish(state)
  local out, rest, report = {}, concat(state.pieces), state.report
  state.pieces, state.size = {}, 0
  if rest ~= "" then
    -- Without its blank line: SDKs would drop it. Completed if that is all it lacks, else dropped here.
    local _, data = parse(rest)
    if data == "[DONE]" or members(data) then
      out[1] = handle(state, match(rest, "^.*[^\r\n]") .. "\n\n")
    end
  elseif state.spilt then
    out[1] = (state.spilt.is_error and "" or "\n\n") .. end_spilt(state)
  end
  if not report.terminal then
    if not report.error then out[#out + 1] = error_event(state, SERVER_ERROR) end
    if state.rule == CHUNKS then out[#out + 1] = "data: [DONE]\n\n" end
    report.terminal = false
    state.news = true
  end
  return concat(out)
end

-- ------------------------------------------------------------------------------------------------------ Envoy's side

local FIELDS = {
  "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "audio_seconds",
  "events", "event_bytes", "first_seconds", "terminal", "error", "unmetered",
}

-- One text for all of the report: each value that is set apart costs several microseconds. Envoy's objects do not
-- outlive the wait for a chunk, so they are asked for anew.
local function publish(report, stream)
  local words = {}
  for i = 1, #FIELDS do
    local name = FIELDS[i]
    local value = report[name]
    if value ~= nil then
      if type(value) == "number" then value = format("%.15g", value) end
      words[#words + 1] = name .. "=" .. tostring(value)
    end
  end
  stream:streamInfo():dynamicMetadata():set(REPORT, "report", concat(words, " "))
end

local function watch_stream(stream, state)
  local last, sent, began = nil, "", tonumber(stream:timestamp())
  for chunk in stream:bodyChunks() do
    local bytes = chunk:getBytes(0, chunk:length())
    if began and bytes ~= "" then -- milliseconds; a clock that was set back in between says nothing
      local passed = tonumber(stream:timestamp()) - began
      state.report.first_seconds, began = passed >= 0 and passed / 1000 or nil, nil
    end
    last, sent = chunk, bytes
    if not state.broken then
      local good, passed = pcall(feed, state, bytes)
      if not good then -- a bug: the buffer passes unchanged, and so does the rest of the stream
        stream:logErr("stream filter: " .. tostring(passed))
        state.broken = true
        passed = concat(state.pieces) .. bytes
      end
      if passed then
        chunk:setBytes(passed)
        sent = passed
      end
      if state.news then
        state.news = false
        publish(state.report, stream)
      end
    end
  end
  if state.broken or not last then return end
  -- The last chunk is still at hand: the loop ended without Envoy in between, unless trailers ended the stream.
  local good, rest = pcall(finish, state)
  if good and rest ~= "" then pcall(last.setBytes, last, sent .. rest) end
  if state.news then publish(state.report, stream) end
end

local function outcome(meter, is_json)
  local found, why = measured(meter, 1)
  return found or { unmetered = is_json and why or "not_json" }
end

-- The report on a whole answer that is at hand.
local function usage_or_reason(text)
  local meter = new_meter()
  measure(meter, text)
  return outcome(meter, find(text, "^%s*{"))
end

local function watch_json(stream)
  local meter, is_json = new_meter(), nil
  for chunk in stream:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local bytes = chunk:getBytes(0, size)
      if is_json == nil then is_json = find(bytes, "^%s*{") ~= nil end
      if is_json then measure(meter, bytes) end
    end
  end
  publish(outcome(meter, is_json), stream)
end

-- The head of an answer decides what it is, not the request.
function envoy_on_response(stream)
  local metadata = stream:streamInfo():dynamicMetadata()
  if metadata:get(REPORT) then return end -- the filter in the cluster has seen the whole
  local ours = metadata:get(NAMESPACE)
  if type(ours) ~= "table" then return end
  local headers = stream:headers()
  local status = headers:get(":status")
  if not status or byte(status) ~= 50 then return end
  if headers:get("content-encoding") then return publish({ unmetered = "encoded" }, stream) end
  local media = lower(headers:get("content-type") or "")
  if find(media, "text/event-stream", 1, true) == 1 then
    if not KINDS[ours.stream] then return publish({ unmetered = "not_json" }, stream) end
    local report = { terminal = false } -- unless it comes to its end
    publish(report, stream)
    headers:remove("content-length") -- an event may come or go
    watch_stream(stream, new(ours.stream, ours.hide_usage == true, report))
  elseif find(media, "application/json", 1, true) == 1 then
    watch_json(stream)
  else
    publish({ unmetered = "not_json" }, stream)
  end
end

stream_filter = { new = new, feed = feed, finish = finish, usage_or_reason = usage_or_reason } -- for measurements

-- ------------------------------------------------------------------------------------- whole answers, in the cluster
-- What follows is for the cluster of engines, where the filter runs once for each attempt and before Envoy decides whether
-- the attempt was good. A whole answer is looked at there: a success that is none gets the status of what it is. Envoy
-- then tries the next candidate if that is worth it, and ext_proc puts the last one's body in the API's words like any
-- other error's. Its usage is reported from here. `answer_filter.lua` is `stream_filter.lua` with this behind it, written by `make reference`.

local rep = string.rep

local LARGEST = 262144 -- bytes; half of such an answer is of no use to anybody, so holding it back costs no time
local LONGEST_ERROR = 65536 -- bytes of an error that are looked at
local HEAD = 256 -- enough to see what it is
local ERRORS = { '^%s*{%s*"error"%s*:%s*{%s*"', '^%s*{%s*"error"%s*:%s*"[^"]', '^%s*{%s*"object"%s*:%s*"error"' }

local function is_error(head)
  for i = 1, #ERRORS do
    if find(head, ERRORS[i]) then return true end
  end
  return false
end

-- Statuses that Envoy does not try again; ext_proc replaces them for the client.
local NOT_AGAIN, NOWHERE_ELSE = "520", "530"
local MOST_FAILURES = 2 -- 500s of one request: a request that breaks engines must not go through the fleet
-- UNMETERED, a global, is set where usage is not counted: metadata cost 40 us of CPU for each answer. Where usage is counted
-- all that comes here was placed, so nothing is checked; the access log reports exchanges with our dynamic metadata only.
local OWN = "answer_filter" -- the metadata that the attempts of a request share

-- What vLLM says with a 500 when the request is to blame: media that cannot be fetched, a schema or a grammar that
-- cannot be compiled. Another engine would say the same.
local FAULTS_OF_THE_REQUEST = {
  "Cannot connect to host", "Connection timeout to host", "Server disconnected", "Timeout on reading data",
  "Response payload is not completed", "Max retries exceeded with url", ", message='", "Cannot load local files",
  "image file is truncated", "data stream", "cannot identify image file", "maximum recursion depth", "Invalid structured outputs",
  '"message":"Internal server error"', "tool parsing is disabled", "chat template error: ",
}

-- How many attempts at this request have ended with a 500, this one included.
local function count_failure(metadata)
  local own = metadata:get(OWN)
  local failures = (own and tonumber(own.failures) or 0) + 1
  metadata:set(OWN, "failures", failures)
  return failures
end

-- The same of Python's exceptions in code that reads a request. Of a None they speak where something of the engine is missing.
local NO_MEMBER, NO_PLACE = "\"message\":\"'[%w_.]+' object has no attribute '", '"message":"%l+ index out of range"'
local NOTHING = "\"message\":\"'NoneType' "

local function is_fault_of_request(body)
  local length = body:length()
  local text = body:getBytes(0, length < LONGEST_ERROR and length or LONGEST_ERROR)
  if not find(text, '"InternalServerError"', 1, true) and not find(text, '"api_error"', 1, true) then return false end
  for i = 1, #FAULTS_OF_THE_REQUEST do
    if find(text, FAULTS_OF_THE_REQUEST[i], 1, true) then return true end
  end
  return (find(text, NO_MEMBER) or find(text, NO_PLACE)) and not find(text, NOTHING, 1, true)
end

-- Whether the list of candidates names one engine only.
local function is_alone(metadata)
  local destinations = metadata:get("envoy.lb")
  local list = destinations and destinations["x-gateway-destination-endpoint"]
  if not list then return false end
  local first = match(list, "^[^,]+")
  return first and list == first .. rep("," .. first, (#list - #first) / (#first + 1))
end

-- An engine that is paused or put to sleep ends what it works on with half of an answer. It says so in a choice's
-- `finish_reason`; Anthropic's API has no word for it, there vLLM gives no reason at all.
local function is_half(text, head)
  if find(head, '"type"%s*:%s*"message"') then return not stands_at(text, 1, '"stop_reason"', true) end
  return is_aborted(text, 3)
end

-- What was got from a stream before it waited for the body is dead afterwards, hence the repeated `stream:headers()`.
local function judge_failure(stream)
  local headers = stream:headers()
  local fault = false
  local size = tonumber(headers:get("content-length") or "")
  local is_plain = size and size <= LARGEST and not headers:get("content-encoding")
  if is_plain and find(headers:get("content-type") or "", "application/json", 1, true) == 1 then
    local body = stream:body()
    fault = body and is_fault_of_request(body)
  end
  if count_failure(stream:streamInfo():dynamicMetadata()) >= MOST_FAILURES or fault then
    stream:headers():replace(":status", NOT_AGAIN)
  end
end

-- The status that a success should have had; nil if it is one.
local function status_of(body, stream)
  local length = body:length()
  local head = body:getBytes(0, length < HEAD and length or HEAD)
  if is_error(head) then
    -- vLLM gives the status as a number; an error without one is the engine's own failure.
    return match(body:getBytes(0, length), '"code"%s*:%s*([45]%d%d)%f[%D]') or "500"
  elseif find(head, '^%s*{%s*"id"%s*:%s*"c') and is_half(body:getBytes(0, length), head) then -- chatcmpl-, cmpl-
    -- The engine that broke it off lets further requests hang, so it is not tried again.
    return is_alone(stream:streamInfo():dynamicMetadata()) and NOWHERE_ELSE or "503"
  end
  return nil
end

-- The report on a whole answer. Engines write the usage near its end: found there with one bracket open behind it, it is
-- the answer's own, whatever stands before. So long answers are not read twice.
local function usage_in(body)
  local length = body:length()
  if length > 2 * TAIL then
    local meter = new_meter()
    measure(meter, body:getBytes(length - TAIL, TAIL))
    local found = measured(meter, 1)
    if found then return found end
  end
  return usage_or_reason(body:getBytes(0, length))
end

local function judge_success(stream)
  local body = stream:body()
  local status = body and status_of(body, stream)
  if status then
    stream:headers():replace(":status", status)
  elseif not UNMETERED then
    publish(body and usage_in(body) or usage_or_reason(""), stream)
  end
end

-- Streams are for the route: an empty piece, such as the filter leaves of one that ends inside of an event, would end a
-- chunked answer here.
function envoy_on_response(stream)
  local headers = stream:headers()
  local status = headers:get(":status")
  if status == "500" then return judge_failure(stream) end
  local size = tonumber(headers:get("content-length") or "") -- no header is no value at all, which tonumber does not take
  local is_whole = size and size <= LARGEST and status == "200" and not headers:get("content-encoding")
  if is_whole and find(lower(headers:get("content-type") or ""), "application/json", 1, true) == 1 then
    judge_success(stream)
  end
end
