"""Takes its time, so that there is something to follow. Usage: countdown.py [FROM]"""

import sys
import time

for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10, 0, -1):
    print(number)
    time.sleep(0.5)
print("lift-off")
