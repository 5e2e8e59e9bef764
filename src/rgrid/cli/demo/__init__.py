"""`rgrid demo`: real scripts on real public data, on a service that is there only as long as it takes."""
