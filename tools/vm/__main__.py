from tools.vm import box

print(box.cached())
