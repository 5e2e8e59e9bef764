create table artifacts (
    artifact_id text collate "C" primary key,
    execution_id text collate "C" not null,
    artifact_type text collate "C" not null,
    filename text not null,
    size_bytes bigint not null,
    content_type text not null,
    sha256 text collate "C" not null,
    created_at timestamptz not null,
    expired boolean not null default false,
    version integer not null default 1
);
create index artifacts_execution_idx on artifacts (execution_id, created_at, artifact_id);
create index artifacts_sha256_idx on artifacts (sha256);
