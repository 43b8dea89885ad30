"""Asks the service with Python's own library. The credential is the password of Basic authentication."""

import base64
import os
import sys
import urllib.request

password = os.environ["DEMO_TOKEN"]
basic = base64.b64encode(f"agent:{password}".encode()).decode()
request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Basic {basic}"})
with urllib.request.urlopen(request, timeout=15) as answer:
    print(answer.read().decode())
    print(answer.status)
