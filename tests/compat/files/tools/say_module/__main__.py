"""Writes down how it was started, and stays."""
import os, sys, time

lines = [f"cwd {os.getcwd()}"]
lines += [f"arg {arg}" for arg in sys.argv[1:]]
lines += [f"env {name}={value}" for name, value in os.environ.items()]
with open(f"{os.environ['SAID']}/{os.environ['pm_id']}", "w") as said:
    said.write("\n".join(lines) + "\n")
time.sleep(1000)
