"""From costs and harms to assignments worth judging."""
