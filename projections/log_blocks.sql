create table log_blocks (
    execution_id text collate "C" not null,
    first_sequence bigint not null,
    last_sequence bigint not null,
    attempt integer not null,
    stdout_lines integer not null,
    stderr_lines integer not null,
    stdout_bytes bigint not null,
    stderr_bytes bigint not null,
    sha256 text collate "C" not null,
    size_bytes bigint not null,
    primary key (execution_id, first_sequence)
);
