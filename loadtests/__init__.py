"""Load tests: whether a deployment meets its objectives, where its knee is, and whether the derived sizing is the right one."""
