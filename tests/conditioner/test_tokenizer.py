from calotype.conditioner.embedders.tokenizer import WordTokenizer, build_vocabulary, words_of


def test_words() -> None:
    assert words_of("A Red-Apple, (two) in Åre; it's no_1!") == [
        "a",
        "red",
        "apple",
        "two",
        "in",
        "åre",
        "it's",
        "no",
        "1",
    ]
    assert words_of("  ...  ") == []


def test_captions_are_padded_and_cut_to_one_length() -> None:
    tokenizer = WordTokenizer(("apple", "red", "a"), length=4)
    assert tokenizer.size == 4
    assert tokenizer.encode("a RED apple") == [0, 3, 2, 1]
    assert tokenizer.encode("red") == [0, 2, 0, 0]
    assert tokenizer.encode("") == [0, 0, 0, 0]
    assert tokenizer.encode("a red apple, a red apple") == [0, 3, 2, 1]


def test_unknown_words_are_left_out_and_take_no_place() -> None:
    tokenizer = WordTokenizer(("apple", "red"), length=3)
    assert tokenizer.encode("some quite red and green apple") == [0, 2, 1]
    assert tokenizer.unknown("some quite red and green apple") == ["some", "quite", "and", "green"]


def test_a_vocabulary_starts_with_the_most_frequent_words() -> None:
    texts = ["a red apple", "a green pear", "A pear", "red"]
    assert build_vocabulary(texts) == ("a", "pear", "red", "apple", "green")
    assert build_vocabulary(reversed(texts)) == build_vocabulary(texts)
    assert build_vocabulary(texts, minimum_count=2) == ("a", "pear", "red")
    assert build_vocabulary(texts, maximum_size=2) == ("a", "pear")
    assert build_vocabulary([]) == ()
