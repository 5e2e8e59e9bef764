-- What the present month has cost and what is kept aside for executions that have not ended, counted within each append
-- while there is a spending limit. One row; the log can always tell the same. `announced` asks every process to count
-- from its next append on, `counting` says that the figures are complete.
create table rgrid.spending (
    single boolean primary key default true check (single),
    announced boolean not null default false,
    counting boolean not null default false,
    limit_micros bigint,
    threshold_percent integer,
    month date not null default date '1970-01-01',
    used_micros bigint not null default 0,
    reserved_micros bigint not null default 0,
    constraint spending_limit_not_counted check (limit_micros is null or counting)
) with (fillfactor = 50);
insert into rgrid.spending default values;
