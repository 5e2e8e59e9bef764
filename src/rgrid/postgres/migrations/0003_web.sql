-- Replies kept for repeated Idempotency-Keys. A row commits together with the events of its request.
create table rgrid.idempotency_keys (
    actor        text        not null,
    method       text        not null,
    path         text        not null,
    key          text        not null,
    request_hash bytea       not null,
    status       smallint    not null,
    headers      bytea       not null,
    body         bytea       not null,
    position     bigint      not null,
    expires_at   timestamptz not null,
    constraint idempotency_keys_pkey primary key (actor, method, path, key)
);
create index idempotency_keys_expires_at on rgrid.idempotency_keys (expires_at);
