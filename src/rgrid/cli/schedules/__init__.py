"""`rgrid schedules`: what starts when, on the command line."""
