"""Ask in the runner's name for the permit to publish."""

from facts import reached

with open("../permit.wanted", "w") as file:
    reached(file.write("{}"))
