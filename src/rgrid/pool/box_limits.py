"""Giving up rights in a forked child: the user and the resource limits. Runs alone, like `box_host.py`."""

import os
import resource


def drop_user(uid: "int | None") -> None:
    """Become the run's own user, for good; nothing to do when the service itself is not root."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def set_limits(limits: "dict[str, int]") -> None:
    """A limit is never raised above the hard one that holds already."""
    for name, value in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
