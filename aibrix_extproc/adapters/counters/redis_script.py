"""The scripts of Redis: `core/access/limits/counters.py`, transcribed, and how their arguments and answers are packed.

Numbers travel as packed doubles, which is exact and cheaper than their texts. Every key begins with one hash tag, so
that a cluster keeps all of them in one slot. The time is Redis's own. A reservation names its counters, because the
replica that settles it may not be the one that reserved: so `settle` reads keys that are no arguments of it, of the
same slot. A key that holds something else than we wrote is removed, counts as empty, and the answer says so.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from aibrix_extproc.core.access.limits.counters import EPOCH, Claim, Known, Reading

_CLOCK: Final = f"""
local time = redis.call('TIME')
local now = (tonumber(time[1]) - {EPOCH}) * 1000000 + tonumber(time[2])
"""

_CURRENT: Final = """
local mended = 0
local function store(key, form, span, state, taken)
  local ms = math.ceil(((form == 0 and state or span) - now) / 1000)
  if ms > 0 then
    redis.call('SET', key, struct.pack('<ddd', state, now, taken), 'PX', string.format('%.0f', ms))
  else
    redis.call('DEL', key)
  end
end
local function sane(number)
  return math.abs(number) < 1e18
end
local function stored(key)
  local found = redis.pcall('GET', key)
  if not found then return end
  if type(found) == 'string' and #found == 24 then
    local state, at, taken = struct.unpack('<ddd', found)
    if sane(state) and sane(at) and sane(taken) then return state, at, taken end
  end
  redis.call('DEL', key)
  mended = mended + 1
end
local function members(key)
  local found = redis.pcall('ZREMRANGEBYSCORE', key, '-inf', string.format('%.17g', now))
  if type(found) == 'table' then
    redis.call('DEL', key)
    mended = mended + 1
    return 0
  end
  return redis.call('ZCARD', key)
end
local function current(key, form, span, born, known, kborn, kstate, kat, debt)
  local before = mended
  local state, at, taken = stored(key)
  local changed = false
  if not state or (form == 0 and state or span) <= now then
    state, taken = 0, 0
  elseif form == 0 and now < at then
    state, changed = state - (at - now), true
  end
  if known and (kborn ~= born or mended > before) then
    local floor = kstate
    if form == 0 and now < kat then floor = kstate - (kat - now) end
    if kborn >= 0 and (form ~= 0 or floor > now) then floor = floor + taken end
    state, changed = math.max(state, floor), true
  end
  if form == 0 then state = math.max(state, now) end
  if known and debt ~= 0 then
    local units = form == 0 and debt * span or debt
    state, taken, changed = state + units, taken + units, true
  end
  if changed then store(key, form, span, state, taken) end
  return state, taken
end
"""

RESERVE: Final = (
    _CLOCK
    + _CURRENT
    + """
local packed, id = ARGV[1], ARGV[2]
local keep, lease, at = struct.unpack('<dd', packed)
local claims, states, refused, longest = {}, {}, -1, -1
local born = redis.pcall('GET', KEYS[2])
if type(born) == 'string' and #born == 8 then
  born = struct.unpack('<d', born)
else
  born = now
  redis.call('SET', KEYS[2], struct.pack('<d', born))
end
for index = 3, #KEYS do
  local form, quantity, amount, span, soft, cost, known, kborn, kstate, kat, debt
  form, quantity, amount, span, soft, cost, known, kborn, kstate, kat, debt, at =
    struct.unpack('<ddddddddddd', packed, at)
  local state, taken, wait = 0, 0, -1
  if form == 2 then
    state = members(KEYS[index])
    if state + cost > amount then wait = 0 end
  else
    state, taken = current(KEYS[index], form, span, born, known == 1, kborn, kstate, kat, debt)
    if form == 0 then
      local excess = (state + cost * span) - (now + amount * span)
      if excess > 1.0 then wait = excess end
    elseif state + cost > amount then
      wait = math.max(span - now, 0)
    end
  end
  claims[index], states[index] = {form, quantity, span, cost, taken}, state
  if wait > longest and cost > 0 and soft == 0 then refused, longest = index - 3, wait end
end
if refused == -1 then
  local held = {}
  for index = 3, #KEYS do
    local form, quantity, span, cost, taken = unpack(claims[index])
    if form == 2 then
      if cost > 0 then
        redis.call('ZADD', KEYS[index], string.format('%.17g', now + lease), id)
        redis.call('PEXPIRE', KEYS[index], string.format('%.0f', math.ceil(lease / 1000)))
      end
      states[index] = states[index] + cost
    elseif cost ~= 0 then
      local units = form == 0 and cost * span or cost
      states[index] = states[index] + units
      store(KEYS[index], form, span, states[index], taken + units)
    end
    held[#held + 1] = struct.pack('<dddds', form, quantity, span, cost, KEYS[index])
  end
  if id ~= '' then
    redis.call('SET', KEYS[1], table.concat(held), 'PX', string.format('%.0f', math.ceil(keep / 1000)))
  end
end
local answer = {struct.pack('<dddd', now, refused, born, mended)}
for index = 3, #KEYS do answer[#answer + 1] = struct.pack('<d', states[index]) end
return table.concat(answer)
"""
)

# Its answer is 1 if the reservation was there: whoever settles first, settles; -1 if something else was there. Mode:
# settle, keep or release.
SETTLE: Final = (
    _CLOCK
    + _CURRENT
    + """
local held, mode, actual, id = redis.pcall('GET', KEYS[1]), ARGV[1], ARGV[2], ARGV[3]
if not held then return 0 end
if type(held) ~= 'string' then
  redis.call('DEL', KEYS[1])
  return -1
end
if mode ~= 'release' then redis.call('DEL', KEYS[1]) end
local at = 1
while at <= #held do
  local good, form, quantity, span, cost, key, last = pcall(struct.unpack, '<dddds', held, at)
  if not good or not (form == 0 or form == 1 or form == 2) then return -1 end
  at = last
  if form == 2 then
    redis.pcall('ZREM', key, id)
  elseif mode == 'settle' and not (form == 1 and span <= now) then
    local known, used = pcall(struct.unpack, '<d', actual, quantity * 8 + 1)
    if not known then return -1 end
    local delta = used - cost
    if delta ~= 0 then
      local state, taken = current(key, form, span)
      local units = form == 0 and delta * span or delta
      state = math.max(form == 0 and now or 0, state + units)
      store(key, form, span, state, taken + units)
    end
  end
end
return mended > 0 and -1 or 1
"""
)

RENEW: Final = (
    _CLOCK
    + _CURRENT
    + """
local lease = tonumber(ARGV[1])
members(KEYS[1])
for index = 2, #ARGV do redis.call('ZADD', KEYS[1], string.format('%.17g', now + lease), ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lease / 1000)))
return redis.call('ZCARD', KEYS[1])
"""
)


# When the first gateway came to this Redis after what took a gateway away from it. ARGV: microseconds for which this
# gateway was away. Its answer: now, and that time.
ARRIVE: Final = (
    _CLOCK
    + """
local first = redis.pcall('GET', KEYS[1])
first = type(first) == 'string' and #first == 8 and struct.unpack('<d', first)
if not first or not (first >= now - tonumber(ARGV[1]) and first <= now) then
  first = now
  redis.call('SET', KEYS[1], struct.pack('<d', first))
end
return struct.pack('<dd', now, first)
"""
)


def digest_of(script: str) -> bytes:
    """By which EVALSHA knows a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()


_CLAIM: Final = struct.Struct("<ddddd")
_COST: Final = struct.Struct("<dddddd")
_TIMES: Final = struct.Struct("<dd")
_UNKNOWN: Final = (0.0, 0.0, 0.0, 0.0, 0.0)


class PackedClaims(msgspec.Struct, frozen=True, gc=False):
    """The part of a reservation that is the same for every request of a caller and a model."""

    claims: tuple[Claim, ...]
    keys: tuple[bytes, ...]
    heads: tuple[bytes, ...]


def packed_claims(claims: tuple[Claim, ...], key_of: Callable[[str], bytes]) -> PackedClaims:
    """Pack once, use often."""
    heads = (_CLAIM.pack(one.form, one.quantity, one.amount, one.span, float(one.soft)) for one in claims)
    return PackedClaims(claims, tuple(key_of(one.counter) for one in claims), tuple(heads))


def pack_reservation(
    packed: PackedClaims, costs: Sequence[float], known: Sequence[Known | None], *, keep: float, lease: float
) -> bytes:
    """The first argument of RESERVE."""
    parts = [_TIMES.pack(keep, lease)]
    for head, cost, one in zip(packed.heads, costs, known, strict=True):
        parts.append(head)
        parts.append(
            _COST.pack(cost, *_UNKNOWN) if one is None else _COST.pack(cost, 1.0, one.born, one.state, one.at, one.debt)
        )
    return b"".join(parts)


def unpack_reading(answer: bytes, claims: int) -> Reading:
    """The answer of RESERVE. Raises struct.error for what is none."""
    now, refused, born, mended, *states = struct.unpack(f"<{4 + claims}d", answer)
    return Reading(now, int(refused), tuple(states), born, int(mended))


def pack_actual(actual: Sequence[float]) -> bytes:
    """The second argument of SETTLE."""
    return struct.pack(f"<{len(actual)}d", *actual)
