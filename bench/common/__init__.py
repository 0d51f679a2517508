"""
What the questions share. A question is a folder beside this one; it says what is measured and has the programs, and
leaves the rest to these::

    records.py     the JSON lines that a run prints: machine, question, sample, skipped, broken, note
    runs.py        candidates measured in turn, several times; the command line of a question
    processes.py   programs of a measurement: pinned to a core, waited for with a deadline, never left behind
    machine.py     what it ran on: cores, versions, date
    report.py      JSON lines -> tables of medians and ratios, all bars, and pictures
    fit.py         what something costs apiece, by least squares
    picture.py     charts as SVG

A minimal question, in ``bench/NAME/__main__.py``::

    def questions(options: Namespace) -> Iterator[Asked]:
        question = Question(name="NAME/rate", title="Messages one way", unit="messages/s", ours="ours",
                            bars={"Twisted AMP": Bar(30)})
        yield question, [Candidate("ours", measure_ours), Candidate("Twisted AMP", measure_amp)]

    if __name__ == "__main__":
        command("bench.NAME", questions)

where ``measure_ours()`` starts its programs, waits for them and returns ``Measured(value)``, or raises `Missing`. Its
name goes into ``bench/__main__.py``, and docs/performance.md gets a block for it (`bench.page`).
"""
