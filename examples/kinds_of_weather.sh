#!/usr/bin/env bash
# How many days of each kind of weather.
# Usage: kinds_of_weather.sh seattle-weather.csv
set -euo pipefail

tail -n +2 "$1" | cut -d, -f6 | sort | uniq -c | sort -rn | tee kinds.txt
