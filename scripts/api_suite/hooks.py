"""Hooks of schemathesis, loaded by `scripts/api-check`: real names in the place of most made-up ones.

A path such as `/users/{id}` is of little use with random text alone. What is put there depends on
what was generated, so that a seed repeats it.
"""

import json
import os
import zlib

import schemathesis

#: By a part of the path: values of a parameter that mean something.
KNOWN = json.loads(os.environ["API_CHECK_KNOWN"])


def is_kept(value):
    return zlib.crc32(repr(value).encode()) % 3 == 0


def chosen(values, value):
    return values[zlib.crc32(repr(value).encode()) // 3 % len(values)]


@schemathesis.hook
def map_path_parameters(context, parameters):
    path = context.operation.path
    for name in list(parameters or ()):
        known = KNOWN.get(next((part for part in KNOWN if part in path and name in KNOWN[part]), ""), {}).get(name)
        if known and not is_kept(parameters[name]):
            parameters[name] = chosen(known, parameters[name])
    return parameters


@schemathesis.hook
def map_query(context, query):
    # It would never end.
    if query and "follow" in query and context.operation.path.endswith("/logs"):
        query["follow"] = "false"
    return query


@schemathesis.hook
def before_call(context, case, kwargs):
    if "follow" in (case.query or {}) and case.path.endswith("/logs"):
        case.query["follow"] = "false"
