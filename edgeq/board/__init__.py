"""Real boards: artifacts run and are timed there, over ssh or adb.

with connect(ssh="pi@raspberry") as board:
    board.load("model.edgeq").measure(repeats=100)
"""

from edgeq.board.board import Board, BoardModel, connect

__all__ = ["Board", "BoardModel", "connect"]
