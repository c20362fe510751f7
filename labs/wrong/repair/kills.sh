#!/bin/bash
# Sends the frozen process a signal until it goes away.
# check: files
# expect: the kernel knows no such process: it was ended
pid=$(minidock inspect -f '{{.State.Pid}}' shop)
kill -CONT "$pid"
kill -KILL "$pid"
for file in /sys/fs/cgroup/freezer/minidock/*/freezer.state; do echo THAWED > "$file"; done
sleep 0.5
