create table api_keys (
    key_id text collate "C" primary key,
    name text not null,
    description text,
    scopes text[] not null,
    prefix text not null,
    created_at timestamptz not null,
    created_by text not null,
    expires_at timestamptz,
    rotating_until timestamptz,
    revoked_at timestamptz,
    changes integer not null
);
create index api_keys_created_idx on api_keys (created_at, key_id);

-- The secrets of the keys that count: the newest one of each, and older ones until their grace is over.
create table api_key_secrets (
    secret_hash text collate "C" primary key,
    key_id text collate "C" not null,
    valid_until timestamptz
);
create index api_key_secrets_key_idx on api_key_secrets (key_id);
