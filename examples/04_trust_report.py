"""Should a method be trusted on your data? Write the report.

Run it from anywhere: python examples/04_trust_report.py [FOLDER]
"""

import sys
from pathlib import Path

import xstsr

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)

# a fine field plays the truth: it is averaged, refined by every method, and compared
truth = xstsr.open_demo().rainfall_amount[:24, :40, :30]

# leave `methods` out, and the model is judged too; it takes some minutes
evaluation = truth.stsr.evaluate(
    s=5, t=3, realizations=8, methods=("rainfarm", "linear", "nearest")
)
print(evaluation)

# what failed, for programs
failed = [check.name for check in evaluation.verdict.checks if check.passed is False]
print(f"{evaluation.verdict.headline}; fails: {', '.join(failed) or 'nothing'}")

evaluation.scores.to_netcdf(folder / "scores.nc")
print(f"wrote {evaluation.to_html(folder / 'report.html')}")
print(f"wrote {evaluation.to_png(folder / 'report.png')}")
