"""The numbers a runner pool works with; `app` fills them from the settings, tests make them small."""

import msgspec

from rgrid.pool.package_index import PackageIndex

MIB = 1024 * 1024


class PoolTuning(msgspec.Struct, frozen=True, kw_only=True):
    """`drain_max_s` bounds how long running scripts may go on after a stop; then their boxes are killed."""

    slots: int
    renew_every_s: float = 10.0
    claim_wait_s: float = 20.0
    drain_max_s: float = 3600.0
    disk_quota_bytes: int = 10 * 1024 * MIB
    log_bytes_max: int = 10 * MIB
    log_lines_max: int = 200_000
    log_tail_bytes: int = 64 * 1024
    output_files_max: int = 1000
    output_bytes_max: int = 1024 * MIB
    install_timeout_s: float = 600.0
    environments_max_bytes: int = 20 * 1024 * MIB
    environments_keep_days: int = 30
    package_index: PackageIndex = PackageIndex()
