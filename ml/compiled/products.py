"""Small matrix products of many rows at once, each row in one lane of the processor's vectors, and transposition.

A matrix [m, n] of each of ``LANES`` rows is a flat array [m, n, LANES]. LLVM does not turn loops over such arrays into
vector instructions once a block of results exceeds its limits for unrolling: 12 instead of 100 GFLOP/s. So ``multiply``
writes the instructions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ml.compiled.loops import LANES

_VECTOR, _INDEX = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
_Term = tuple[ir.Value, ir.Value]
_LARGEST_BLOCK = 16  # results that AVX-512's 32 registers hold, besides the factors
# Cycles of a multiplication with addition, one of which starts in each cycle; cycles to start a block; usual depth.
_LATENCY, _START, _DEPTH = 4, 10, 16


@intrinsic(prefer_literal=True)
def multiply(  # noqa: PLR0913, PLR0917
    _: Any,
    left: Any,
    left_row: Any,
    left_step: Any,
    right: Any,
    right_column: Any,
    right_step: Any,
    out: Any,
    out_row: Any,
    out_column: Any,
    rows: Any,
    columns: Any,
    depth: Any,
) -> Any:
    """Set ``out[m, n] = sum over k of left[m, k] right[k, n]`` in each lane; for compiled loops.

    A stride is a difference of places in a flat array, so that a transposed matrix has its strides exchanged.

    Args:
        left: float32, flat. Like ``right``, it must not overlap ``out``.
        left_row: stride of m.
        left_step: stride of k.
        right: float32, flat.
        right_column: stride of n.
        right_step: stride of k.
        out: float32, flat.
        out_row: stride of m.
        out_column: stride of n.
        rows: number of m; like ``columns``, a variable of the enclosing factory, known when the loop is compiled.
        columns: number of n.
        depth: number of k.
    """
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(columns, types.IntegerLiteral):
        return None  # how an intrinsic says that arguments do not fit
    height, width = _block(rows.literal_value, columns.literal_value)
    strides = (types.intp, types.intp)
    signature = types.void(left, *strides, right, *strides, out, *strides, rows, columns, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        a, b, c = (context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 3, 6))
        a_row, a_step, b_column, b_step, c_row, c_column = (arguments[i] for i in (1, 2, 4, 5, 7, 8))
        first_rows = _starts(builder, rows.literal_value, height)
        first_columns = _starts(builder, columns.literal_value, width)
        with first_rows as first_row, first_columns as first_column:
            ms = [builder.add(first_row, _INDEX(i)) for i in range(height)]
            ns = [builder.add(first_column, _INDEX(i)) for i in range(width)]
            sums = {place: cgutils.alloca_once_value(builder, _VECTOR([0.0] * LANES)) for place in product(ms, ns)}
            for total in sums.values():
                builder.store(_VECTOR([0.0] * LANES), total)
            with cgutils.for_range(builder, arguments[11], intp=_INDEX) as loop:
                lefts = {m: _load(builder, a, (m, a_row), (loop.index, a_step)) for m in ms}
                rights = {n: _load(builder, b, (n, b_column), (loop.index, b_step)) for n in ns}
                for (m, n), total in sums.items():
                    builder.store(_fma(builder, lefts[m], rights[n], builder.load(total)), total)
            for (m, n), total in sums.items():
                builder.store(builder.load(total), _place(builder, c, (m, c_row), (n, c_column)), align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def transpose(_: Any, source: Any, out: Any, rows: Any, columns: Any) -> Any:
    """Set ``out[n, m] = source[m, n]``; for compiled loops, since LLVM would move single numbers.

    Args:
        source: float32 [rows, columns], flat; it must not overlap ``out``.
        out: float32 [columns, rows], flat.
        rows: number of m; like ``columns``, a variable of the enclosing factory, known when the loop is compiled.
        columns: number of n.
    """
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(columns, types.IntegerLiteral):
        return None
    signature = types.void(source, out, rows, columns)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        a, b = (context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1))
        height, width = min(rows.literal_value, LANES), min(columns.literal_value, LANES)
        first_rows = _starts(builder, rows.literal_value, height)
        first_columns = _starts(builder, columns.literal_value, width)
        with first_rows as first_row, first_columns as first_column:
            block = [ir.Constant(_VECTOR, ir.Undefined)] * LANES
            for i in range(height):
                row = builder.add(first_row, _INDEX(i))
                at = _place(builder, a, (row, _INDEX(columns.literal_value)), (first_column, _INDEX(1)), width)
                block[i] = _resized(builder, builder.load(at, align=4), width, LANES)
            for i, vector in enumerate(_transposed(builder, block)[:width]):
                column = builder.add(first_column, _INDEX(i))
                at = _place(builder, b, (column, _INDEX(rows.literal_value)), (first_row, _INDEX(1)), height)
                builder.store(_resized(builder, vector, LANES, height), at, align=4)
        return context.get_dummy_value()

    return signature, generate


def _transposed(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Transpose LANES vectors: exchange one bit of a number's row with the same bit of its column, for each bit."""
    found, bit = list(vectors), 1
    while bit < LANES:
        low = [j + LANES - bit if j & bit else j for j in range(LANES)]
        high = [j + LANES if j & bit else j + bit for j in range(LANES)]
        for i in range(LANES):
            if not i & bit:
                pair = found[i], found[i + bit]
                found[i], found[i + bit] = (_shuffled(builder, *pair, places) for places in (low, high))
        bit *= 2
    return found


def _resized(builder: ir.IRBuilder, vector: ir.Value, size: int, new_size: int) -> ir.Value:
    """Return the first numbers of a vector; those past its end are undefined."""
    return vector if size == new_size else _shuffled(builder, vector, vector, [i % size for i in range(new_size)])


def _shuffled(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, places: Sequence[int]) -> ir.Value:
    """Return the numbers at ``places`` of two vectors after each other."""
    kind = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(first, second, ir.Constant(kind, list(places)))


def _block(rows: int, columns: int) -> tuple[int, int]:
    """Return the height and width of the blocks that need the fewest cycles."""

    def cycles(block: tuple[int, int]) -> int:
        height, width = block
        blocks = -(-rows // height) * -(-columns // width)
        step = max(height * width, height + width, _LATENCY)  # multiplications and loads: one of each a cycle
        return blocks * (_DEPTH * step + height * width + _START)

    sizes = product(range(1, min(rows, 4) + 1), range(1, min(columns, 8) + 1))
    fitting = [size for size in sizes if size[0] * size[1] <= _LARGEST_BLOCK]
    return min(fitting, key=cycles)


@contextmanager
def _starts(builder: ir.IRBuilder, length: int, block: int) -> Iterator[ir.Value]:
    """Loop over the starts of blocks; the last one ends at ``length``, if need be by overlapping the one before."""
    with cgutils.for_range(builder, _INDEX(-(-length // block)), intp=_INDEX) as loop:
        start, last = builder.mul(loop.index, _INDEX(block)), _INDEX(length - block)
        yield builder.select(builder.icmp_signed("<", start, last), start, last)


def _place(builder: ir.IRBuilder, data: ir.Value, first: _Term, second: _Term, size: int = LANES) -> ir.Value:
    """Return the address of a vector from two pairs of an index and a stride."""
    place = builder.add(builder.mul(*first), builder.mul(*second))
    return builder.bitcast(builder.gep(data, [place]), ir.VectorType(ir.FloatType(), size).as_pointer())


def _load(builder: ir.IRBuilder, data: ir.Value, first: _Term, second: _Term) -> ir.Value:
    return builder.load(_place(builder, data, first, second), align=4)


def _fma(builder: ir.IRBuilder, *operands: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), operands)
