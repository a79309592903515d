-- Looks at an engine's whole answer before Envoy decides whether the attempt was good. A success that is none gets the
-- status of what it is: Envoy then tries the next candidate if that is worth it, and the last one's body is put in the
-- API's words by ext_proc like any other error's.
--
-- Stands in the cluster of engines, so it runs once for each attempt. Streams, large answers and what is not JSON pass
-- untouched.

local find, match = string.find, string.match

local LARGEST = 262144 -- bytes; half of such an answer is of no use to anybody, so holding it back costs no time
local HEAD = 256 -- enough to see what it is
local ERRORS = { '^%s*{%s*"error"%s*:%s*{%s*"', '^%s*{%s*"error"%s*:%s*"[^"]', '^%s*{%s*"object"%s*:%s*"error"' }

local function is_error(head)
  for i = 1, #ERRORS do
    if find(head, ERRORS[i]) then return true end
  end
  return false
end

-- An engine that is paused or put to sleep ends what it works on with half of an answer. It says so in a choice's
-- `finish_reason`; Anthropic's API has no word for it, there vLLM gives no reason at all. A model's text has its quotes
-- escaped, so no name between two quotes can be found in it.
local function is_half(text, head)
  return find(text, '"finish_reason"%s*:%s*"abort"')
    or find(head, '"type"%s*:%s*"message"') and not find(text, '"stop_reason"', 1, true)
end

function envoy_on_response(stream)
  local headers = stream:headers()
  if headers:get(":status") ~= "200" or headers:get("content-encoding") then return end
  local size = tonumber(headers:get("content-length") or "") -- no header is no value at all, which tonumber does not take
  if not size or size > LARGEST then return end
  if find(headers:get("content-type") or "", "application/json", 1, true) ~= 1 then return end
  local body = stream:body()
  if not body then return end
  local length = body:length()
  local head = body:getBytes(0, length < HEAD and length or HEAD)
  local status
  if is_error(head) then
    -- vLLM tells the status as a number; what has none is the engine's own failure.
    status = match(body:getBytes(0, length), '"code"%s*:%s*([45]%d%d)%f[%D]') or "500"
  elseif find(head, '^%s*{%s*"id"%s*:%s*"c') and is_half(body:getBytes(0, length), head) then -- chatcmpl-, cmpl-
    status = "503"
  end
  if status then stream:headers():replace(":status", status) end
end
