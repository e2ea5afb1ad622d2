/*
 * train_digits.c: trains the network of examples/digits.c once, and keeps rows aside to judge it
 * by.
 *
 *   zcat digits.csv.gz | train_digits OUT.net HELD_OUT.csv
 *
 * The rows are 64 pixels of 0 to 16 and the digit, as in scikit-learn's digits.csv.gz (see
 * examples/data/README.md).  Each fifth row is held out: the network never learns from it.
 */
#include <fann.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 64, HIDDEN = 40, DIGITS = 10, ROWS = 2000, EPOCHS = 120 };

static struct row {
    float pixels[PIXELS];
    int digit;
} rows[ROWS];

static unsigned read_rows(void)
{
    unsigned count = 0;
    for (; count < ROWS; count++) {
        float value;
        for (int i = 0; i < PIXELS; i++) {
            if (scanf("%f,", &value) != 1)
                return count;
            rows[count].pixels[i] = value;
        }
        if (scanf("%f", &value) != 1)
            return count;
        rows[count].digit = (int)value;
    }
    return count;
}

static int is_held_out(unsigned row)
{
    return row % 5 == 4;
}

static struct fann_train_data *training_set(unsigned count)
{
    unsigned used = 0;
    struct fann_train_data *set = fann_create_train(count - count / 5, PIXELS, DIGITS);
    for (unsigned r = 0; set && r < count; r++) {
        if (is_held_out(r))
            continue;
        for (int i = 0; i < PIXELS; i++)
            set->input[used][i] = rows[r].pixels[i] / 16;
        for (int d = 0; d < DIGITS; d++)
            set->output[used][d] = d == rows[r].digit;
        used++;
    }
    return set;
}

static int best_of(const fann_type *scores)
{
    int best = 0;
    for (int d = 1; d < DIGITS; d++)
        if (scores[d] > scores[best])
            best = d;
    return best;
}

static void judge(struct fann *net, unsigned count)
{
    unsigned right = 0, all = 0;
    for (unsigned r = 0; r < count; r++) {
        fann_type input[PIXELS];
        if (!is_held_out(r))
            continue;
        for (int i = 0; i < PIXELS; i++)
            input[i] = rows[r].pixels[i] / 16;
        right += best_of(fann_run(net, input)) == rows[r].digit;
        all++;
    }
    printf("held out: %u of %u right, %.1f %%\n", right, all, 100.0 * right / all);
}

static int write_held_out(const char *path, unsigned count)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return -1;
    for (unsigned r = 0; r < count; r++) {
        if (!is_held_out(r))
            continue;
        for (int i = 0; i < PIXELS; i++)
            fprintf(out, "%d,", (int)rows[r].pixels[i]);
        fprintf(out, "%d\n", rows[r].digit);
    }
    return fclose(out);
}

int main(int argc, char **argv)
{
    unsigned count = argc == 3 ? read_rows() : 0;
    if (count == 0) {
        fprintf(stderr, "usage: zcat digits.csv.gz | train_digits OUT.net HELD_OUT.csv\n");
        return 2;
    }
    struct fann *net = fann_create_standard(3, PIXELS, HIDDEN, DIGITS);
    struct fann_train_data *set = training_set(count);
    if (!net || !set)
        return 1;
    fann_set_activation_function_hidden(net, FANN_SIGMOID_SYMMETRIC);
    fann_set_activation_function_output(net, FANN_SIGMOID);
    srand(1); /* after fann_create_standard(), which seeds from the system */
    fann_randomize_weights(net, -0.1f, 0.1f);
    for (int epoch = 1; epoch <= EPOCHS; epoch++) {
        float error = fann_train_epoch(net, set);
        if (epoch % 20 == 0) {
            printf("epoch %d: error %.5f, ", epoch, (double)error);
            judge(net, count);
        }
    }
    if (fann_save(net, argv[1]) != 0 || write_held_out(argv[2], count) != 0) {
        perror("train_digits");
        return 1;
    }
    fann_destroy_train(set);
    fann_destroy(net);
    return 0;
}
