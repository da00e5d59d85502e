"""Render the pages: landing, user, visitor, invalid URL, and nothing published."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st

from app.web import widgets
from app.web.address import NAMES, Rejected
from app.web.answers import Answer, answer_user, answer_visitor
from app.web.sidebar import Query
from app.web.texts import Texts
from ml import schema
from ml.data.movielens_tables import has_codes
from ml.errors import DataError, NotFoundError
from ml.inference.visitors import COMPANIONS, Visitor
from ml.published.people import People
from ml.published.snapshot import PublishedModel, Snapshot

Value = str | int
_MOST_LIKED = 20
_POLL_SECONDS = 2.0


def nothing_published(texts: Texts, problem: str) -> None:
    """Say what is missing and what to run."""
    st.title(texts("missing_title"))
    st.warning(widgets.plain(texts("missing", problem=problem)))
    st.write(texts("missing_do"))
    st.code("make run", language="sh")


def rejected(texts: Texts, parameters: Sequence[Rejected]) -> None:
    """Say which parameters of the URL are invalid, instead of answering a different query."""
    st.title(texts("rejected_title"))
    for part in parameters:
        expected = texts("one_of", values=", ".join(part.expected or NAMES))
        key = "rejected" if part.expected else "rejected_name"
        st.error(widgets.plain(texts(key, parameter=part.parameter, expected=expected)))
    st.write(texts("rejected_do"))


def landing(texts: Texts, snapshot: Snapshot) -> None:
    """Show the data set's counts and the published models."""
    st.title(texts("title"))
    st.write(texts("tagline"))
    people = snapshot.people
    st.subheader(texts("counts_title"))
    widgets.facts(
        {
            texts("users"): f"{len(people.users):,}",
            texts("movies"): f"{len(people.movies):,}",
            texts("rated_movies"): f"{people.ratings['movie_id'].nunique():,}",
            texts("ratings"): f"{len(people.ratings):,}",
            **_first_and_last_rating(texts, people),
        }
    )
    st.subheader(texts("published_title"))
    for model in map(snapshot.model, snapshot.purposes):
        facts = {"model": texts.model(model.name), "version": model.version, "month": texts.moment(*model.lists.moment)}
        purpose = texts.purpose(snapshot.purposes[model.name])
        st.markdown(f"- {texts.of_times('published_line', people.has_times, **facts, purpose=purpose)}")
    st.info(texts.of_ids("begin", people.user_id_type))


def _first_and_last_rating(texts: Texts, people: People) -> dict[str, str]:
    if not people.has_times:
        return {}
    first, last = (texts.moment(time.year, time.month) for time in people.span)
    return {texts("first_rating"): first, texts("last_rating"): last}


def user(texts: Texts, snapshot: Snapshot, query: Query) -> None:
    """Show a user's profile, lists and history."""
    people = snapshot.people
    first, last = people.first_and_last
    try:
        user_id = schema.parse_id(query.user_id, people.user_id_type)
    except DataError:
        expected = {"first": first, "last": last, "longest": schema.LONGEST_ID}
        st.error(widgets.plain(texts.of_ids("bad_id", people.user_id_type, given=query.user_id, **expected)))
        return
    shown_id = widgets.plain(str(user_id))
    try:
        profile, history = people.profile(user_id), people.history(user_id)
    except NotFoundError:
        first, last = (widgets.plain(str(each)) for each in (first, last))
        st.error(texts.of_ids("unknown_id", people.user_id_type, given=shown_id, first=first, last=last))
        return
    liked = history[history["liked"]]
    st.title(texts("profile", user_id=shown_id))
    widgets.facts(
        {
            **{texts.feature(kind): _named(texts, people, kind, value) for kind, value in profile.items()},
            texts("liked_count"): texts("liked_of", liked=f"{len(liked):,}", count=f"{len(history):,}"),
        }
    )
    st.subheader(texts.of_times("lists", people.has_times, month=texts.moment(*query.moment)))
    _lists(
        texts,
        snapshot,
        query.models,
        lambda model: answer_user(model, people, user_id, query.moment, query.among),
        liked["movie_id"].tolist(),
        texts.of_ids("no_list", people.user_id_type, given=user_id),
        "because_user",
    )
    st.subheader(texts("history"))
    if history.empty:
        st.write(texts("no_history"))
        return
    shown = history if people.has_ratings and st.toggle(texts("all_ratings")) else liked
    if people.has_times:
        st.caption(texts("history_note"))
    if shown.empty:
        st.write(texts("no_likes"))
    else:
        widgets.history(texts, people, shown)


def visitor(texts: Texts, snapshot: Snapshot, query: Query) -> None:
    """Show recommendations for a visitor without a history."""
    people = snapshot.people
    st.title(texts("visitor_title"))
    choices = people.visitor_choices
    st.write(texts("visitor_rule", count=COMPANIONS))
    told = _demographics(texts, people, choices)
    titles = people.titles_of_rated
    liked = st.multiselect(
        texts("visitor_liked"),
        titles.index.tolist(),
        format_func=lambda movie: titles[movie],
        placeholder=texts("visitor_pick"),
        max_selections=_MOST_LIKED,
        select_all=False,  # with it, Enter would select all matches of the typed text
    )
    who = Visitor(told, tuple(liked))
    if not who.liked and not who.demographics:
        st.info(texts("visitor_nothing" if choices else "visitor_likes_nothing"))
        return
    st.subheader(texts.of_times("lists_visitor", people.has_times, month=texts.moment(*query.moment)))
    _lists(
        texts,
        snapshot,
        query.models,
        lambda model: answer_visitor(model, people, who, query.moment, query.among),
        list(who.liked),
        texts("unknown_movie"),
        "because",
    )


def _demographics(texts: Texts, people: People, choices: Mapping[str, list[Value]]) -> dict[str, Value]:
    """Let the visitor choose a value, or none, of each feature."""
    told = {}
    for (kind, values), place in zip(choices.items(), st.columns(max(len(choices), 1)), strict=False):
        chosen = place.selectbox(
            texts.feature(kind),
            values,
            index=None,
            format_func=partial(_named, texts, people, kind),
            placeholder=texts("not_specified"),
        )
        if chosen is not None:
            told[kind] = chosen
    return told


def _named(texts: Texts, people: People, kind: str, value: Value) -> str:
    """A readable name of a user's value; the codes of MovieLens-1M have names of their own."""
    has_name = kind == "gender" or (kind in ("age", "occupation") and has_codes(people.users))
    return texts.name(kind, value) if has_name else str(value)


def _lists(
    texts: Texts,
    snapshot: Snapshot,
    models: Sequence[PublishedModel],
    answer_of: Callable[[PublishedModel], Answer],
    liked: Sequence[schema.Id],
    no_list: str,
    because: str,
) -> None:
    """Show one list, or two side by side with shared movies marked."""
    try:
        with st.spinner(texts("loading"), show_time=False):
            answers = [answer_of(model) for model in models]
    except NotFoundError as error:
        st.warning(widgets.plain(f"{no_list} ({error.args[0]})"))
        return
    shared = set.intersection(*(set(answer.movies) for answer in answers)) if len(answers) > 1 else set()
    if len(answers) > 1:
        longest = max(len(answer.movies) for answer in answers)
        st.write(texts("common", count=len(shared), length=longest))
    for place, answer in zip(st.columns(len(answers), gap="large"), answers, strict=True):
        with place:
            st.markdown(f"#### {texts.model(answer.model.name)}")
            st.write(texts.purpose(snapshot.purposes[answer.model.name]))
            _one_list(texts, snapshot, answer, shared, liked, because)


def _one_list(
    texts: Texts,
    snapshot: Snapshot,
    answer: Answer,
    shared: set[schema.Id],
    liked: Sequence[schema.Id],
    because: str,
) -> None:
    source = texts("from_table" if answer.from_table else "live", version=answer.model.version)
    st.caption(f"{source} {texts('chance' if answer.model.scores_are_chances else 'order_only')}")
    if not answer.movies:
        st.write(texts("nothing_matches"))
        return
    poll = None if answer.model.live.has_explanations or not liked else _POLL_SECONDS

    @st.fragment(run_every=poll)
    def with_explanations() -> None:
        ready = answer.model.live.has_explanations
        if ready and poll:
            st.rerun()  # stops the timer
        explanations = answer.explanations(liked) if ready and liked else {}
        widgets.movie_list(
            texts, answer, shared, widgets.explanation_texts(texts, because, snapshot.people, explanations)
        )
        if liked and not ready:
            st.caption(texts("explanations_later"))
        elif liked and not answer.model.live.explanations.can_explain:
            st.caption(texts("no_explanations"))

    with_explanations()
