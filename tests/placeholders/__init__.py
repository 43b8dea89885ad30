"""Laws of placeholders: made, swapped in slots, put back in all that comes back."""
