"""What happens before and after epochs and steps.

None keeps anything from one epoch or step to the next but in the RunState, so a run can begin at any step. Each adds what it
measured to the epoch's logs, where the callbacks after it in the list find it.
"""
