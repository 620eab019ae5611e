"""What a search hands over: the policy, its page, or the limit that can't be kept."""
