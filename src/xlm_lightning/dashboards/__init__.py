"""Where people look at a run besides `metrics.csv`: Weights & Biases, TensorBoard, Trackio.

All of them are told the same figures under the same names by the same calls. A run that goes on
after a stop or a kill stays one run with one axis of steps; each file says how.
"""
