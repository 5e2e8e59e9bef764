-- When each API key was last used, exact to a minute: written for many keys at once, so it is no fact of the log.
create table rgrid.key_uses (
    key_id text collate "C" primary key,
    last_used_at timestamptz not null
) with (fillfactor = 50);

-- Single-use tickets for WebSockets of browsers, which can't send headers. Only the ticket's hash is kept.
create table rgrid.ws_tickets (
    ticket_hash text collate "C" primary key,
    execution_id text collate "C" not null,
    principal bytea not null,
    expires_at timestamptz not null
);
create index ws_tickets_expires_idx on rgrid.ws_tickets (expires_at);
