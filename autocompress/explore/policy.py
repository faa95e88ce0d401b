"""Numbers that several parts of the search decide by."""

FINALISTS = 3  # families trained in full without a budget; the front has several
CONTENDERS = 2  # and under one: the better of them, trained equally long, has the time
CHECKED = 12  # files measured again at the end
MOST_PREFERRED = 4  # of what can be recommended, measured again first and even when dominated
