"""How many workers a group needs: from what waits, arrives and is done, and what more workers gained."""
