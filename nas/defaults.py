"""What a search does where nothing is said; in one place, for the commands and for scripts."""

SPACE = "fashion-mbv3"  # a supernet ships under the same name
BUDGET = 400_000  # candidates scored: seconds
STUDY_BUDGET = 2_000  # where each is a trial of an Optuna study: minutes
FINALISTS, MOST_FINALISTS = 8, 64
