"""What whole searches ask to be computed, recorded and compared. No search here trains or measures anything."""
