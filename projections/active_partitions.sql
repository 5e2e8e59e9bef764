-- The partition as a hash, because an index can't hold a value of any length. The name of the constraint is the code of
-- the refusal.
create table active_partitions (
    run_id text collate "C" primary key,
    workflow_name text collate "C" not null,
    partition_sha256 bytea not null,
    constraint partition_active unique (workflow_name, partition_sha256)
);
