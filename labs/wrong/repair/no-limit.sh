#!/bin/bash
# Lifts the limit of processes altogether.
# check: processes
# expect: (?s)the limit of 32 that the shop was started with.*says max
id=$(minidock inspect -f '{{.Id}}' shop)
for file in /sys/fs/cgroup/pids/minidock/$id/pids.max /sys/fs/cgroup/minidock/$id/pids.max; do
    [ -e "$file" ] && echo max > "$file"
done
