"""OpenStack Swift with its S3 interface, all in one process and in one folder: an object store that really checks
signatures. Run by Debian's own interpreter (it imports nothing of ours): `swift_server.py FOLDER`; prints its port."""

import os
import sys
from importlib import import_module
from pathlib import Path

# By name, because these belong to Debian's interpreter and not to the environment of this project.
eventlet = import_module("eventlet")
eventlet.monkey_patch()
wsgi = import_module("eventlet.wsgi")

ACCESS, SECRET = "grid:tester", "a-secret-of-the-tests"
SETTINGS = {
    "swift": "[swift-hash]\nswift_hash_path_suffix = rgrid\n[storage-policy:0]\nname = one\ndefault = yes\n",
    "object": "[DEFAULT]\nswift_dir = {0}\ndevices = {0}/devices\nmount_check = false\n[app:main]\n"
    "use = egg:swift#mem_object\n",
    "container": "[DEFAULT]\nswift_dir = {0}\ndevices = {0}/devices\nmount_check = false\n[app:main]\n"
    "use = egg:swift#container\nallow_versions = true\n",
    "account": "[DEFAULT]\nswift_dir = {0}\ndevices = {0}/devices\nmount_check = false\n[app:main]\n"
    "use = egg:swift#account\n",
    "proxy": "[DEFAULT]\nswift_dir = {0}\n[pipeline:main]\n"
    "pipeline = catch_errors cache listing_formats s3api tempauth copy slo dlo proxy-server\n"
    "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
    "[filter:catch_errors]\nuse = egg:swift#catch_errors\n[filter:cache]\nuse = egg:swift#memcache\n"
    "memcache_servers = 127.0.0.1:1\n[filter:listing_formats]\nuse = egg:swift#listing_formats\n"
    "[filter:s3api]\nuse = egg:swift#s3api\ns3_acl = false\nlocation = us-east-1\nmin_segment_size = 1\n"
    "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_grid_tester = {1} .admin\n"
    "[filter:copy]\nuse = egg:swift#copy\n[filter:slo]\nuse = egg:swift#slo\nminimum_segment_size = 1\n"
    "[filter:dlo]\nuse = egg:swift#dlo\n",
}


def without_body_for_head(application):
    """eventlet ends a HEAD's answer of unknown length with a chunk, which clients take for the next answer."""

    def call(environ, start):
        if environ["REQUEST_METHOD"] != "HEAD":
            return application(environ, start)

        def start_bare(status, headers, exc_info=None):
            named = {name.lower() for name, _ in headers}
            return start(
                status, [*headers, *([] if "content-length" in named else [("Content-Length", "0")])], exc_info
            )

        list(application(environ, start_bare))
        return []

    return call


def main(folder: Path) -> None:
    for name, text in SETTINGS.items():
        (folder / f"{name}.conf").write_text(text.format(folder, SECRET))
    (folder / "devices" / "one").mkdir(parents=True)
    utils = import_module("swift.common.utils")
    utils.SWIFT_CONF_FILE = str(folder / "swift.conf")
    utils.validate_hash_conf()
    import_module("swift.common.storage_policy").reload_storage_policies()
    listeners = {}
    for name in ("account", "container", "object", "proxy"):
        listeners[name] = eventlet.listen(("127.0.0.1", 0))
    for name in ("account", "container", "object"):
        port = listeners[name].getsockname()[1]
        builder = import_module("swift.common.ring").RingBuilder(4, 1, 0)
        device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "one", "weight": 1.0}
        device |= {"replication_ip": "127.0.0.1", "replication_port": port}
        builder.add_dev(device)
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{name}.ring.gz"))
    pool = eventlet.GreenPool(1000)
    protocol = import_module("swift.common.http_protocol").SwiftHttpProtocol
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        for name in ("account", "container", "object", "proxy"):
            application = import_module("swift.common.wsgi").loadapp(
                str(folder / f"{name}.conf"), global_conf={"log_level": "ERROR"}
            )
            eventlet.spawn(
                wsgi.server, listeners[name], without_body_for_head(application), log=nowhere, log_output=False,
                custom_pool=pool, protocol=protocol, capitalize_response_headers=False,
            )  # fmt: skip
        print(listeners["proxy"].getsockname()[1], flush=True)
        parent = os.getppid()
        while os.getppid() == parent:  # ends with whoever started it
            eventlet.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
