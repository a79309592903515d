"""The scripts of Redis: `core/access/limits/counters.py`, transcribed, and how their arguments and answers are packed.

Numbers travel as packed doubles, which is exact and cheaper than their texts. Every key begins with one hash tag, so
that a cluster keeps all of them in one slot. The time is Redis's own. A reservation names its counters, because the
replica that settles it may not be the one that reserved: so `settle` reads keys that are no arguments of it, of the
same slot.
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
local function store(key, form, span, state, born)
  local ms = math.ceil(((form == 0 and state or span) - now) / 1000)
  if ms > 0 then
    redis.call('SET', key, struct.pack('<ddd', state, now, born), 'PX', string.format('%.0f', ms))
  else
    redis.call('DEL', key)
  end
end
local function current(key, form, span, known, kborn, kstate, kat, debt)
  local found = redis.call('GET', key)
  local state, at, born, changed = 0, now, now, false
  if found then
    state, at, born = struct.unpack('<ddd', found)
    if (form == 0 and state or span) <= now then
      state, born = 0, now
    elseif form == 0 and now < at then
      state, changed = state - (at - now), true
    end
  end
  if known and kborn ~= born then
    local floor = kstate
    if form == 0 and now < kat then floor = kstate - (kat - now) end
    state, changed = math.max(state, floor), true
  end
  if form == 0 then state = math.max(state, now) end
  if known and debt ~= 0 then
    if form == 0 then state = state + debt * span else state = state + debt end
    changed = true
  end
  if changed then store(key, form, span, state, born) end
  return state, born
end
"""

RESERVE: Final = (
    _CLOCK
    + _CURRENT
    + """
local packed, id = ARGV[1], ARGV[2]
local keep, lease, at = struct.unpack('<dd', packed)
local claims, states, births, refused, longest = {}, {}, {}, -1, -1
for index = 2, #KEYS do
  local form, quantity, amount, span, soft, cost, known, kborn, kstate, kat, debt
  form, quantity, amount, span, soft, cost, known, kborn, kstate, kat, debt, at =
    struct.unpack('<ddddddddddd', packed, at)
  local state, born, wait = 0, now, -1
  if form == 2 then
    redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', string.format('%.17g', now))
    state = redis.call('ZCARD', KEYS[index])
    if state + cost > amount then wait = 0 end
  else
    state, born = current(KEYS[index], form, span, known == 1, kborn, kstate, kat, debt)
    if form == 0 then
      local excess = (state + cost * span) - (now + amount * span)
      if excess > 1.0 then wait = excess end
    elseif state + cost > amount then
      wait = math.max(span - now, 0)
    end
  end
  claims[index], states[index], births[index] = {form, quantity, span, cost}, state, born
  if wait > longest and cost > 0 and soft == 0 then refused, longest = index - 2, wait end
end
if refused == -1 then
  local held = {}
  for index = 2, #KEYS do
    local form, quantity, span, cost = unpack(claims[index])
    if form == 2 then
      if cost > 0 then
        redis.call('ZADD', KEYS[index], string.format('%.17g', now + lease), id)
        redis.call('PEXPIRE', KEYS[index], string.format('%.0f', math.ceil(lease / 1000)))
      end
      states[index] = states[index] + cost
    elseif cost ~= 0 then
      states[index] = states[index] + (form == 0 and cost * span or cost)
      store(KEYS[index], form, span, states[index], births[index])
    end
    held[#held + 1] = struct.pack('<dddds', form, quantity, span, cost, KEYS[index])
  end
  if id ~= '' then
    redis.call('SET', KEYS[1], table.concat(held), 'PX', string.format('%.0f', math.ceil(keep / 1000)))
  end
end
local answer = {struct.pack('<dd', now, refused)}
for index = 2, #KEYS do answer[#answer + 1] = struct.pack('<dd', states[index], births[index]) end
return table.concat(answer)
"""
)

# Its answer is 1 if the reservation was there: whoever settles first, settles. Mode: settle, keep or release.
SETTLE: Final = (
    _CLOCK
    + _CURRENT
    + """
local held, mode, actual, id = redis.call('GET', KEYS[1]), ARGV[1], ARGV[2], ARGV[3]
if not held then return 0 end
if mode ~= 'release' then redis.call('DEL', KEYS[1]) end
local at = 1
while at <= #held do
  local form, quantity, span, cost, key
  form, quantity, span, cost, key, at = struct.unpack('<dddds', held, at)
  if form == 2 then
    redis.call('ZREM', key, id)
  elseif mode == 'settle' and not (form == 1 and span <= now) then
    local delta = struct.unpack('<d', actual, quantity * 8 + 1) - cost
    if delta ~= 0 then
      local state, born = current(key, form, span, false)
      if form == 0 then state = math.max(now, state + delta * span) else state = math.max(0, state + delta) end
      store(key, form, span, state, born)
    end
  end
end
return 1
"""
)

RENEW: Final = (
    _CLOCK
    + """
local lease = tonumber(ARGV[1])
for index = 2, #ARGV do redis.call('ZADD', KEYS[1], string.format('%.17g', now + lease), ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lease / 1000)))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.17g', now))
return redis.call('ZCARD', KEYS[1])
"""
)


# When the first gateway came to this Redis, which has lost everything before. Its answer: now, and that time.
ARRIVE: Final = (
    _CLOCK
    + """
local found = redis.call('GET', KEYS[1])
if not found then
  found = struct.pack('<d', now)
  redis.call('SET', KEYS[1], found)
end
return struct.pack('<d', now) .. found
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
    now, refused, *rest = struct.unpack(f"<{2 + 2 * claims}d", answer)
    return Reading(now, int(refused), tuple(rest[0::2]), tuple(rest[1::2]))


def pack_actual(actual: Sequence[float]) -> bytes:
    """The second argument of SETTLE."""
    return struct.pack(f"<{len(actual)}d", *actual)
