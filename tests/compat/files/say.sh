#!/bin/sh
# Writes down how it was started, and stays.
{
  echo "cwd $PWD"
  for arg; do echo "arg $arg"; done
  env | sed 's/^/env /'
} > "$SAID/$pm_id"
exec sleep 1000
