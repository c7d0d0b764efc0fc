"""What becomes of a user's instance when the daemon dies in the midst of a change of it.

Each round has a user of its own. What was acknowledged before the death holds; the change itself is
there whole or not at all, and which of the two is known: from the commit on it is there.
"""

import http.client
import json
import sqlite3
import urllib.error
import urllib.request

SERVICE = "web"
OLD_KEY, NEW_KEY = "the-old-key", "the-new-key"
KINDS = {
    "add": "an instance is made",
    "replace": "it gets another credential",
    "rotate": "it gets another URL",
    "change": "it is disabled",
    "remove": "it is removed",
    "user": "its user is removed",
}
#: Places that are met before the store has acknowledged.
BEFORE = ("before_", "half_")


def ask(url, token=None, method="GET", body=None):
    """Status and text; a daemon that died is (0, why)."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


class Tenant:
    """A user, and one kind of change (`KINDS`)."""

    count = 0

    def __init__(self, fleet, kind):
        Tenant.count += 1
        self.fleet, self.kind, self.user = fleet, kind, f"tenant{Tenant.count}"
        self.base = f"http://127.0.0.1:{fleet.listen}/api/v1/services/{SERVICE}"
        self.token = fleet.run(fleet.program, "-s", "users", "add", self.user).strip()
        self.url = self.public = None
        if kind != "add":
            self.url = self.granted(self.call("POST", "authenticate", {"apiKey": OLD_KEY}))
            self.public = self.own()["id"]

    def call(self, method, path, body=None):
        return ask(f"{self.base}/{path}", self.token, method, body)

    @staticmethod
    def granted(answer):
        if answer[0] != 200:
            raise RuntimeError(f"no instance: {answer}")
        return json.loads(answer[1])["instanceUrl"]

    def own(self):
        """The instance as its owner sees it; `None` when there is none."""
        status, text = self.call("GET", "instance")
        if status not in (200, 404):
            raise RuntimeError(f"the owner sees {status}: {text}")
        return json.loads(text) if status == 200 else None

    def act(self):
        """Whether it was acknowledged, and the URL that came with it."""
        if self.kind in ("add", "replace", "rotate"):
            rotates = self.kind == "rotate"
            status, text = self.call("POST", "instance/rotate" if rotates else "authenticate", None if rotates else {"apiKey": NEW_KEY})
            return status == 200, json.loads(text)["instanceUrl"] if status == 200 else None
        if self.kind == "remove":
            return self.call("DELETE", "instance")[0] == 204, None
        command = ["instances", "disable", self.public] if self.kind == "change" else ["users", "rm", self.user]
        try:
            self.fleet.run(self.fleet.program, *command)
        except RuntimeError:
            return False, None
        return True, None

    def found(self, is_done, given=None):
        """What is not as it must be when the change is done, or not; `given`: the URL that was acknowledged."""
        kind, wrong = self.kind, []

        def expect(what, is_so):
            if not is_so:
                wrong.append(f"{self.kind}: {what}")

        if kind == "user" and is_done:
            expect("the token of a removed user is good", self.call("GET", "instance")[0] == 401)
            expect("the URL of a removed user is not dead", ask(self.url)[0] == 404)
            return wrong + self.halves()
        own = self.own()
        if (kind == "add" and not is_done) or (kind == "remove" and is_done):
            expect("there is an instance", own is None)
            expect("the URL is not dead", not self.url or ask(self.url)[0] == 404)
            return wrong + self.halves()
        if own is None:
            return [f"{kind}: there is no instance"] + self.halves()
        key = NEW_KEY if is_done and kind in ("add", "replace") else OLD_KEY
        answered = ask(own["instanceUrl"])
        if kind == "change" and is_done:
            expect("it is active", not own["active"] and own["disabledAt"])
            expect("a disabled URL is not dead", answered[0] == 404)
        else:
            expect("it is not active", own["active"])
            expect(f"its URL answers {answered}, not 200 with {key}", answered == (200, key))
        if given:
            expect("the acknowledged URL is another one", own["instanceUrl"] == given)
        if kind == "rotate" and is_done:
            expect("its URL is the old one", own["instanceUrl"] != self.url)
            expect("the old URL is not dead", ask(self.url)[0] == 404)
        elif self.url:
            expect("its URL is another one", own["instanceUrl"] == self.url)
        return wrong + self.halves()

    def halves(self):
        """Rows of the store that miss their other half."""
        with sqlite3.connect(f"file:{self.fleet.folder}/home/mcpm.db?mode=ro", uri=True) as db:
            rows = dict(db.execute("SELECT public_id, user_id FROM user_service_instances"))
            credentials = {row[0] for row in db.execute("SELECT public_id FROM credentials")}
            users = {row[0] for row in db.execute("SELECT id FROM users")}
        db.close()
        wrong = [f"instance {public} has no credential" for public in set(rows) - credentials]
        wrong += [f"a credential is left of {public}" for public in credentials - set(rows)]
        return wrong + [f"an instance of {user} is left" for user in set(rows.values()) - users]

    def end(self):
        self.fleet.run(self.fleet.program, "users", "rm", self.user, check=False)


def kind_of(failpoint):
    room, place = failpoint.split(".")
    if room == "user":
        return "user"
    word = place.removeprefix("before_").removeprefix("half_")
    names = {"added": "add", "shown": "add", "removed": "remove", "ended": "remove", "old_ended": "rotate", "rotated": "rotate", "rotation_shown": "rotate", "replaced": "replace", "replacement_shown": "replace", "changed": "change", "change_shown": "change"}
    return names.get(word, word)


def is_done_at(failpoint):
    """Must the change be there when the daemon dies there?"""
    return not failpoint.split(".")[1].startswith(BEFORE)


def acknowledged(fleet, kind):
    """The same change with an answer, and the daemon dies the moment that arrives."""
    tenant = Tenant(fleet, kind)
    told, given = tenant.act()
    fleet.end_daemon()
    fleet.run(fleet.program, "ping")
    fleet.settled()
    wrong = tenant.found(True, given) if told else [f"{kind}: it was refused"]
    tenant.end()
    return [f"after it was acknowledged: {text}" for text in wrong]
