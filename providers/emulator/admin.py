"""The emulator's admin API, for a demo in another process: rotate, order faults, read the records.

Paths under `/_emulator/`, JSON both ways, and the header `X-Emulator-Token` with the text of `DIR/admin-token`. It
has no counterpart in the real cloud.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from urllib.parse import parse_qs

from .calls import as_json
from .cloud import Cloud
from .errors import ApiError
from .faults import Fault
from .policies import SECRET_USER
from .reception import Reply
from .signatures import Request

__all__ = ["PREFIX", "Admin"]

PREFIX = "/_emulator/"


class Admin:
    """The admin API; the routes are in docs/emulator.md."""

    def __init__(self, cloud: Cloud, token: str) -> None:
        """Serve `cloud` to whoever has `token`."""
        self._cloud = cloud
        self._token = token
        self._routes = {
            ("POST", "rotate"): self._rotate,
            ("POST", "rotate_instance_session"): self._rotate_instance_session,
            ("POST", "attach_policy"): self._attach_policy,
            ("POST", "detach_policies"): self._detach_policies,
            ("POST", "restrict"): self._restrict,
            ("POST", "add_user"): self._add_user,
            ("POST", "create_access_key"): self._create_access_key,
            ("POST", "update_access_key"): self._update_access_key,
            ("POST", "delete_access_key"): self._delete_access_key,
            ("GET", "access_keys"): self._access_keys,
            ("POST", "delays"): self._delays,
            ("POST", "fault"): self._fault,
            ("GET", "calls"): self._calls,
            ("GET", "summary"): self._summary,
        }

    def handle(self, request: Request) -> Reply:
        """Answer one request: 403 without the token, 404 for an unknown path, 400 for a body that makes no sense."""
        given = request.headers.get("x-emulator-token", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return _json(403, {"error": "wrong or missing X-Emulator-Token"})
        route = self._routes.get((request.method, request.path.removeprefix(PREFIX)))
        if route is None:
            return _json(404, {"error": f"no {request.method} {request.path} here"})
        try:
            return _json(200, route(request))
        except ApiError as error:
            return _json(error.status, {"error": error.message})
        except (KeyError, TypeError, ValueError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    def _rotate(self, request: Request) -> Mapping[str, object]:
        asked = json.loads(request.body)
        with self._cloud.locked():
            old = self._cloud.current_key(asked["secret"])
            key = self._cloud.rotate(asked["secret"], asked.get("version_id"))
            version = self._cloud.secret(asked["secret"]).current
        return {
            "old_access_key_id": old.access_key_id,
            "access_key_id": key.access_key_id,
            "version_id": version.version_id,
        }

    def _rotate_instance_session(self, request: Request) -> Mapping[str, object]:
        return {"access_key_id": self._cloud.rotate_instance_session().access_key_id}

    def _attach_policy(self, request: Request) -> Mapping[str, object]:
        """Attach `{"user": NAME, "document": {...}, "name"?}`, or with `role`; or `{"client_key": ID, "resources": [...]}`."""
        asked = json.loads(request.body)
        with self._cloud.locked():
            if "client_key" in asked:
                self._cloud.attach_rule(asked["client_key"], asked.get("permission", SECRET_USER), *asked["resources"])
            elif "role" in asked:
                role = self._cloud.role(self._cloud.role_arn(asked["role"]))
                if asked.get("name") == "trust":
                    self._cloud.trust(role, asked["document"])
                else:
                    self._cloud.attach_policy(role, asked["document"], asked.get("name", "policy"))
            else:
                self._cloud.attach_policy(
                    self._cloud.user(asked["user"]), asked["document"], asked.get("name", "policy")
                )
        return {"attached": True}

    def _detach_policies(self, request: Request) -> Mapping[str, object]:
        role = json.loads(request.body)["role"]
        self._cloud.detach_policies(role)
        return {"role": role}

    def _restrict(self, request: Request) -> Mapping[str, object]:
        """Restrict `{"access_key_id": ID}`, or `{"secret": NAME}`: the key that a secret has now."""
        asked = json.loads(request.body)
        with self._cloud.locked():
            key_id = asked.get("access_key_id") or self._cloud.current_key(asked["secret"]).access_key_id
            self._cloud.restrict_access_key(key_id)
        return {"access_key_id": key_id}

    def _add_user(self, request: Request) -> Mapping[str, object]:
        """Make the user `{"user": NAME, "actions"?: [...]}`, or let one do more."""
        asked = json.loads(request.body)
        user = self._cloud.add_user(asked["user"], *asked.get("actions", []))
        return {"user": user.name, "user_id": user.user_id}

    def _create_access_key(self, request: Request) -> Mapping[str, object]:
        """Make a key for `{"user": NAME}`, as somebody does in the console; the secret is shown this once."""
        key = self._cloud.add_access_key(json.loads(request.body)["user"])
        return {"access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret}

    def _update_access_key(self, request: Request) -> Mapping[str, object]:
        """Set `{"access_key_id": ID, "status": "Active" | "Inactive"}`, as somebody does in the console."""
        asked = json.loads(request.body)
        self._cloud.set_status(asked["access_key_id"], asked["status"])
        return {"access_key_id": asked["access_key_id"]}

    def _delete_access_key(self, request: Request) -> Mapping[str, object]:
        """Move `{"access_key_id": ID}`, which must be disabled, to the recycle bin, as somebody does in the console."""
        asked = json.loads(request.body)
        self._cloud.recycle_access_key(asked["access_key_id"])
        return {"access_key_id": asked["access_key_id"]}

    def _access_keys(self, request: Request) -> Mapping[str, object]:
        """Tell the keys of `?user=NAME` as they are, whatever lists show, and what lies in the recycle bin. No secrets."""
        name = parse_qs(request.query)["user"][0]
        with self._cloud.locked():
            user = self._cloud.user(name)
            keys = {
                key.access_key_id: "Restricted" if key.restricted else key.status for key in self._cloud.keys_of(name)
            }
            recycled = [key.access_key_id for key in self._cloud.recycled_keys(user.user_id)]
        return {"keys": keys, "recycle_bin": recycled}

    def _delays(self, request: Request) -> Mapping[str, object]:
        """Set `{"propagation_s"?, "disable_s"?, "list_s"?}` for what happens from now on; tell all three."""
        asked = json.loads(request.body)
        if unknown := asked.keys() - {"propagation_s", "disable_s", "list_s"}:
            raise ValueError(f"no delay of the name {', '.join(sorted(unknown))}")
        cloud = self._cloud
        with cloud.locked():
            cloud.propagation_delay_s = float(asked.get("propagation_s", cloud.propagation_delay_s))
            cloud.disable_delay_s = float(asked.get("disable_s", cloud.disable_delay_s))
            cloud.list_delay_s = float(asked.get("list_s", cloud.list_delay_s))
            return {
                "propagation_s": cloud.propagation_delay_s,
                "disable_s": cloud.disable_delay_s,
                "list_s": cloud.list_delay_s,
            }

    def _fault(self, request: Request) -> Mapping[str, object]:
        """Order `{"fault": NAME, "times"?, "action"?, "body"?}` or `{"status": N, "code"?, "times"?, "action"?}`."""
        asked = json.loads(request.body)
        times, action = int(asked.get("times", 1)), asked.get("action")
        if "fault" in asked and Fault(asked["fault"]) is not Fault.STATUS:
            self._cloud.inject(Fault(asked["fault"]), times=times, action=action, body=asked.get("body"))
        else:
            self._cloud.fail_next(int(asked["status"]), asked.get("code"), times=times, action=action)
        return {"ordered": times}

    def _calls(self, request: Request) -> Mapping[str, object]:
        since = int(parse_qs(request.query).get("since", ["0"])[0])
        return {"calls": [as_json(call) for call in self._cloud.log.since(since)]}

    def _summary(self, request: Request) -> Mapping[str, object]:
        return self._cloud.log.summary()


def _json(status: int, body: Mapping[str, object]) -> Reply:
    return Reply(status, json.dumps(body).encode())
