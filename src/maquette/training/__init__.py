"""Training. Start at `loop.py`; the rest is what its one screen calls.

optim, schedule, precision, ema     the update
state, checkpoint, seeding, signals what survives a kill
threads                             how many a step is worth
watch, failures                     what a run that goes wrong says
callbacks, progress, clock, result  what a person sees
scoring                             one pass over a split in inference mode
"""
