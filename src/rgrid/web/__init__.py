"""HTTP plumbing that knows no domain: operations, problems, decoding, paging, idempotency, live streams, health."""
