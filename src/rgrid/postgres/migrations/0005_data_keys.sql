-- One key per stream that holds secret values, wrapped by the master key of which `master_id` is a fingerprint.
-- Without its key a stream's secret values can't be read again: forgetting a stream empties `wrapped_key` and keeps
-- the row, so that no new key is ever made for it.
create table rgrid.data_keys (
    stream_id text collate "C" primary key,
    master_id text collate "C" not null,
    wrapped_key bytea,
    created_at timestamptz not null default clock_timestamp(),
    forgotten_at timestamptz,
    check ((wrapped_key is null) = (forgotten_at is not null))
);
create index data_keys_master_id_idx on rgrid.data_keys (master_id) where wrapped_key is not null;
