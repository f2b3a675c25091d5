"""The lease of a RAM user's rotation, on the board: one hash, changed by one script, so that no two hosts have it at once.

    keyturn:{FLEET}:ram_user:USER:lease   host, machine, kind (lease or owner), number, until, seen

All times are the server's, in milliseconds. The number is never smaller than the server's time, so that it also grows over a
server that lost its memory; and greater than any that whoever takes the lease has written down. What a host that has the
lease has to do before it changes something at RAM: agent/ram_rotation/tenure.py, docs/adr/0026.
"""

from __future__ import annotations

from typing import Any

from agent.core.lease import CLAIM_S, LIFE_S, Lease
from agent.fleet.board import KEEP_S, LIVE_S, Board
from agent.fleet.entries import host_name

SCRIPT = """
local act, host, machine, given = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local may_follow, life, claim, alive, keep = ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, raw = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do found[raw[i]] = raw[i + 1] end
local who, kind = found['host'] or '', found['kind'] or 'lease'
local function finite(written)
  local value = tonumber(written) or 0
  return value == value and math.abs(value) <= 1e300 and value or 0
end
local number, ends, seen = finite(found['number']), finite(found['until']), finite(found['seen'])
local latest = now + (kind == 'owner' and claim or life)
if ends > latest then
  ends = latest
  if act == 'take' then redis.call('HSET', KEYS[1], 'until', string.format('%.0f', ends)) end
end
local mine = who == host and found['machine'] == machine
local wanted, lasts = nil, life
if act == 'take' then
  local free = who == '' or (ends <= now and may_follow)
  if mine or free then wanted = 'lease' end
elseif act == 'renew' then
  if mine and kind == 'lease' and number == given then wanted = 'lease' end
elseif act == 'claim' then
  if mine or kind ~= 'owner' or now - seen >= alive then wanted, lasts = 'owner', claim end
elseif act == 'release' and mine then
  ends = now
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now))
elseif act == 'forget' and who == host then
  who, mine, ends = '', false, 0
  redis.call('HSET', KEYS[1], 'host', '', 'machine', '', 'kind', 'lease', 'until', '0')
end
if wanted then
  if not (mine and kind == wanted) then number = math.max(number, act == 'claim' and 0 or given, now) + 1 end
  who, mine, kind, ends, seen = host, true, wanted, now + lasts, now
  redis.call('HSET', KEYS[1], 'host', host, 'machine', machine, 'kind', kind, 'number', string.format('%.0f', number),
    'until', string.format('%.0f', ends), 'seen', string.format('%.0f', seen))
  redis.call('EXPIRE', KEYS[1], keep)
end
local ours = wanted or (act ~= 'renew' and mine and ends > now)
return {ours and 1 or 0, who, kind, string.format('%.0f', number), math.max(0, ends - now),
  math.max(0, math.min(now - seen, 1e13))}
"""
"""What each act does, atomically. A number that others hold is never written again. What lasts longer than it can was
written before the server's clock went back, or by a stranger: it ends as if it had been renewed when it was first seen."""


class RamUserLease:
    """`agent.core.lease.LeaseBoard` of one RAM user, over one connection."""

    def __init__(self, board: Board, user: str, host: str, machine: str) -> None:
        """Keep what is needed; nothing is sent yet.

        Args:
            board: a connection.
            user: the RAM user. Users of the same name in two accounts have one lease: give each account's fleet its own `name`.
            host: this host's name in the fleet.
            machine: tells this machine from another by the same name.
        """
        self._board, self.user, self._host, self._machine = board, user, host, machine

    def take(self, *, may_follow: bool, floor: int) -> Lease:
        """Take the lease where it is free, or renew it."""
        return self._ask("take", floor, may_follow=may_follow)

    def renew(self, number: int) -> Lease:
        """Renew the lease, where that number is still the newest."""
        return self._ask("renew", number)

    def claim(self) -> Lease:
        """Say that this host's config says `owner = true`."""
        return self._ask("claim")

    def look(self) -> Lease:
        """Return what is known; change nothing."""
        return self._ask("look")

    def release(self) -> None:
        """Let go of it, where it is this host's."""
        self._ask("release")

    def forget(self) -> bool:
        """Have the board know of no holder where it is this host, whatever machine; return whether it was."""
        was = self.look().host == self._host
        if was:
            self._ask("forget")
        return was

    def close(self) -> None:
        """Give the connection back."""
        self._board.close()

    def _ask(self, act: str, number: int = 0, *, may_follow: bool = False) -> Lease:
        milliseconds = (str(round(seconds * 1000)) for seconds in (LIFE_S, CLAIM_S, LIVE_S))
        given = (act, self._host, self._machine, str(number), "1" if may_follow else "0", *milliseconds, str(KEEP_S))
        return _lease(self._board.run(SCRIPT, self._board.key(f"ram_user:{self.user}", "lease"), given))


def _lease(answer: Any) -> Lease:
    is_ours, host, kind, number, left_ms, silent_ms = answer
    return Lease(
        is_ours=bool(is_ours),
        host=host_name(host) or "?" if host else "",
        is_claimed=kind == b"owner",
        number=int(number),
        left_s=left_ms / 1000,
        silent_s=silent_ms / 1000,
    )
