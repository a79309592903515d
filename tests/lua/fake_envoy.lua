-- Envoy's side of a Lua filter on the response path, as far as scripts can see it: one coroutine for each response,
-- resumed with each chunk; a chunk is dead as soon as the script waits for the next one.

local Chunk = {}
Chunk.__index = Chunk

local function live(chunk)
  if chunk.is_dead then error("object used outside of proper scope") end
end

function Chunk:length()
  live(self)
  return #self.bytes
end

function Chunk:getBytes(index, length)
  live(self)
  if index < 0 or length < 0 or index + length > #self.bytes then error("index/length out of range") end
  return string.sub(self.bytes, index + 1, index + length)
end

function Chunk:setBytes(bytes)
  live(self)
  assert(type(bytes) == "string")
  self.bytes = bytes
end

local function new_stream(notes, headers, seen, shared)
  local waits = 0 -- what a script got before it waited for a chunk is dead afterwards
  local function guarded(methods)
    local made = waits
    local object = {}
    for name, method in pairs(methods) do
      object[name] = function(...)
        if made ~= waits then error("object used outside of proper scope") end
        return method(...)
      end
    end
    return object
  end
  local metadata = {}
  function metadata:get(namespace)
    if namespace == "aibrix.extproc" then return notes end
    return shared[namespace]
  end
  function metadata:set(namespace, name, value)
    assert(value ~= nil)
    if namespace == "answer_filter" then
      shared[namespace] = shared[namespace] or {}
      shared[namespace][name] = value
      return
    end
    assert(namespace == "aibrix.usage")
    seen.metadata[name] = value
    seen.writes = seen.writes + 1
  end
  local info = {}
  function info:dynamicMetadata() return guarded(metadata) end
  local map = {}
  function map:get(name) return headers[name] end
  function map:remove(name) headers[name] = nil end
  function map:replace(name, value) headers[name] = value end
  local stream = { is_over = false }
  function stream:streamInfo() return guarded(info) end
  function stream:headers() return guarded(map) end
  function stream:timestamp() return 1796000000000 + 250 * waits end
  function stream:logErr(text) seen.errors[#seen.errors + 1] = text end
  function stream:body() -- Envoy waits for the whole of it; one without any bytes is nil
    local all = {}
    while not stream.is_over do
      waits = waits + 1
      local chunk = coroutine.yield()
      all[#all + 1] = chunk and chunk.bytes
    end
    local bytes = table.concat(all)
    return bytes ~= "" and setmetatable({ bytes = bytes }, Chunk) or nil
  end
  function stream:bodyChunks()
    return function()
      if stream.is_over then return nil end
      waits = waits + 1
      return coroutine.yield()
    end
  end
  return stream
end

-- Sends pieces through the script. The last one carries the end of the stream unless there are trailers or a reset.
-- `shared` is the metadata of the request, which its attempts have in common.
function run(notes, headers, pieces, ending, shared)
  local seen = { metadata = {}, writes = 0, errors = {}, out = {} }
  local stream = new_stream(notes, headers, seen, shared)
  local script = coroutine.create(envoy_on_response)
  local function resume(value)
    if coroutine.status(script) ~= "suspended" then return end
    local good, problem = coroutine.resume(script, value)
    if not good then seen.errors[#seen.errors + 1] = tostring(problem) end
  end
  resume(stream)
  for i = 1, #pieces do
    stream.is_over = ending == "end" and i == #pieces
    local chunk = setmetatable({ bytes = pieces[i] }, Chunk)
    resume(chunk)
    chunk.is_dead = true
    seen.out[i] = chunk.bytes
  end
  if ending == "trailers" then
    stream.is_over = true
    resume(nil)
  end
  return seen
end
