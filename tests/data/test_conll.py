import pytest

from bertkernels.data.conll import read_conll
from bertkernels.errors import InputError


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / "train.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def words(text):
    return [sentence.words for sentence in text.sentences]


def tags(text):
    return [sentence.tags for sentence in text.sentences]


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t\n", " \n"])
def test_columns(write, blank, end):
    content = f"\ufeffHe PRP B-NP\nis VBZ B-VP\n{blank}So  RB B-ADVP{end}"
    text = read_conll(write(content))
    assert words(text) == [["He", "is"], ["So"]] and tags(text) == [["B-NP", "B-VP"], ["B-ADVP"]]
    assert text.sentences[0].columns == [["He", "PRP", "B-NP"], ["is", "VBZ", "B-VP"]] and text.separator == " "
    assert text.sentences[1].place(0).endswith("train.txt, line 4")
    assert tags(read_conll(write(content), label_column=1)) == [["PRP", "VBZ"], ["RB"]]
    assert words(read_conll(write(content), text_column=-2, label_column=0)) == [["PRP", "VBZ"], ["RB"]]


def test_tabs_keep_spaces_and_what_looks_like_white_space(write):
    text = read_conll(write("New York\tB-X\r\n\u2028\tO\r\n\u00a0\tO\n\t\n''\tO\n"))
    assert words(text) == [["New York", "\u2028", "\u00a0"], ["''"]] and text.separator == "\t"
    text = read_conll(write("\u00a0 O\n\u3000 B-X\n"))
    assert words(text) == [["\u00a0", "\u3000"]] and tags(text) == [["O", "B-X"]]


def test_documents_are_passed_over(write):
    text = read_conll(write("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n-DOCSTART- -X- O O\n\nPeter NNP I-NP I-PER\n"))
    assert words(text) == [["EU"], ["Peter"]] and tags(text) == [["I-ORG"], ["I-PER"]]


def test_without_tags(write):
    text = read_conll(write("He\nis\n\nSo\n"), labelled=False)
    assert words(text) == [["He", "is"], ["So"]] and tags(text) == [None, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\t\n-DOCSTART- O\n", "is empty"),
        ("a b\nc d e\n", "train.txt, line 2: 3 fields, expected 2 as in line 1"),
        ("a\tO\nb O\n", "train.txt, line 2: 1 fields, expected 2 as in line 1"),
        ("\na\tO\nb\t\n", "train.txt, line 3: an empty field"),
        ("a\tO\n\tO\n", "train.txt, line 2: an empty field"),
        ("a\n", "train.txt, line 1: word and tag are in one column, 'a'"),
        (b"a O\n\xff O\n", "not UTF-8"),
    ],
)
def test_bad_files_are_named(write, content, message):
    with pytest.raises(InputError, match=message):
        read_conll(write(content))


def test_bad_columns_are_named(write, tmp_path):
    with pytest.raises(InputError, match=r"train.txt, line 1: no column 3 \(--label_column_index\) among 3"):
        read_conll(write("a b c\n"), label_column=3)
    with pytest.raises(InputError, match=r"no column -4 \(--text_column_index\) among 3"):
        read_conll(write("a b c\n"), text_column=-4)
    with pytest.raises(InputError, match="absent.txt: No such file"):
        read_conll(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("name", "sentences", "count"),
    [("conll2000/train.txt", 4500, 106740), ("wnut17/train.txt", 3394, 62730), ("wnut17/dev.txt", 1009, 15733)],
)
def test_real_files(data_dir, name, sentences, count):
    text = read_conll(data_dir / "tagging" / name)
    assert len(text) == sentences and sum(len(sentence.words) for sentence in text.sentences) == count
