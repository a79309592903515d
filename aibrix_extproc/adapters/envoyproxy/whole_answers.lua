
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
